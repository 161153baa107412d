"""Losses on tokens and prototypes (iBOT, EsViT, MSN, DINOv3) against loops in float64, and their known values."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nolabel.losses.cluster import sinkhorn
from nolabel.losses.distill import distill_masked, distill_regions, gram, mean_entropy, nearest_regions


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def cross_entropy(p: list[float], logits: list[float], temperature: float) -> float:
    below = sum(math.exp(x / temperature) for x in logits)
    return -sum(q * math.log(math.exp(x / temperature) / below) for q, x in zip(p, logits))


# ---- iBOT


def test_distill_masked_is_the_formula() -> None:
    student, teacher = draw(3, 4, 5).requires_grad_(), draw(3, 4, 5, seed=1).softmax(-1)
    weight = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    total = 0.0
    for b in range(3):
        terms = [
            cross_entropy(teacher[b, m].tolist(), student[b, m].tolist(), 0.3) for m in range(4) if weight[b, m].item()
        ]
        total += sum(terms) / max(1, len(terms)) / 3
    loss = distill_masked(student, teacher, weight, 0.3)
    assert loss.item() == pytest.approx(total, rel=1e-9)
    assert distill_masked(student.float(), teacher.float(), weight, 0.3).item() == pytest.approx(total, rel=1e-6)
    assert gradcheck(lambda x: distill_masked(x, teacher, weight, 0.3), (student,))
    (grad,) = torch.autograd.grad(loss, student)
    assert not grad[~weight].any() and grad[weight].any()


def test_nothing_hidden_costs_nothing_and_uniform_costs_log_k() -> None:
    zeros, uniform = torch.zeros(2, 3, 1024, requires_grad=True), torch.full((2, 3, 1024), 1 / 1024)
    nothing = distill_masked(zeros, uniform, torch.zeros(2, 3, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0 and zeros.grad is not None and zeros.grad.isfinite().all()
    assert distill_masked(zeros, uniform, torch.ones(2, 3)).item() == pytest.approx(6.931, abs=1e-3)


# ---- EsViT


def test_nearest_regions_and_their_loss_are_loops() -> None:
    a, b = draw(2, 4, 6), draw(2, 3, 6, seed=1)
    nearest = nearest_regions(a, b)
    student, teacher = draw(2, 4, 5, seed=2), draw(2, 3, 5, seed=3).softmax(-1)
    total = 0.0
    for i in range(2):
        for r in range(4):
            cosines = [
                sum(x * y for x, y in zip(a[i, r].tolist(), b[i, s].tolist())) / a[i, r].norm().item() / b[i, s].norm().item()
                for s in range(3)
            ]  # fmt: skip
            best = max(range(3), key=cosines.__getitem__)
            assert nearest[i, r].item() == best
            total += cross_entropy(teacher[i, best].tolist(), student[i, r].tolist(), 0.5) / 8
    assert distill_regions(student, teacher, nearest, 0.5).item() == pytest.approx(total, rel=1e-9)


# ---- MSN


def test_mean_entropy_is_the_formula_and_has_its_known_values() -> None:
    p = draw(6, 4).softmax(-1).requires_grad_()
    mean = [sum(row[k] for row in p.tolist()) / 6 for k in range(4)]
    expected = math.log(4) + sum(x * math.log(x) for x in mean)
    assert mean_entropy(p).item() == pytest.approx(expected, rel=1e-9)
    assert gradcheck(mean_entropy, (p,))
    assert mean_entropy(torch.full((5, 8), 1 / 8)).item() == pytest.approx(0, abs=1e-6)
    assert mean_entropy(torch.eye(8)).item() == pytest.approx(0, abs=1e-6)  # each sure of another one
    assert mean_entropy(torch.eye(8)[:1].expand(5, 8)).item() == pytest.approx(math.log(8), rel=1e-6)


def test_sharpening_and_sinkhorn_go_by_logarithms() -> None:
    """Sharpened probabilities p^(1/T) / sum are the softmax at tau T, which Sinkhorn takes as its start."""
    logits, sharpening = draw(16, 5), 0.25
    p = logits.softmax(-1) ** (1 / sharpening)
    q = (p / p.sum(1, keepdim=True)).clone()
    torch.testing.assert_close((logits / sharpening).softmax(-1), q)
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(0) * 5
        q /= q.sum(1, keepdim=True) * 16
    torch.testing.assert_close(sinkhorn((logits / sharpening).log_softmax(-1), 1.0), q * 16)


# ---- DINOv2


def test_rows_without_weight_do_not_count_in_sinkhorn() -> None:
    scores = draw(20, 6)
    weight = (torch.arange(20) % 3 != 0).double()
    real = sinkhorn(scores[weight > 0], 0.3)
    torch.testing.assert_close(sinkhorn(scores, 0.3, weight_B=weight)[weight > 0], real)
    torch.testing.assert_close(sinkhorn(scores, 0.3, weight_B=torch.ones(20).double()), sinkhorn(scores, 0.3))
    other = torch.where(weight[:, None] > 0, scores, 50 * scores)
    torch.testing.assert_close(sinkhorn(other, 0.3, weight_B=weight)[weight > 0], real)


# ---- DINOv3


def test_gram_is_the_formula() -> None:
    x, anchor = draw(2, 3, 4).requires_grad_(), draw(2, 3, 4, seed=1).requires_grad_()
    total = 0.0
    for b in range(2):
        for i in range(3):
            for j in range(3):

                def cosine(y: Tensor, b: int = b, i: int = i, j: int = j) -> float:
                    return (y[b, i] @ y[b, j] / y[b, i].norm() / y[b, j].norm()).item()

                total += (cosine(x) - cosine(anchor)) ** 2 / 18
    assert gram(x, anchor).item() == pytest.approx(total, rel=1e-9)
    assert gradcheck(lambda y: gram(y, anchor), (x,))
    gram(x, anchor).backward()
    assert anchor.grad is None


def test_gram_ignores_rotation_and_length_and_looks_at_each_image() -> None:
    x = draw(2, 5, 4)
    turn = torch.linalg.qr(draw(4, 4, seed=2))[0]
    assert gram(x @ turn, x).item() < 1e-20
    assert gram(x * draw(2, 5, 1, seed=3).abs(), x).item() < 1e-20
    assert gram(torch.stack((x[0], x[1] @ turn)), x).item() < 1e-20  # one image turned: between images nothing is asked
    assert gram(x.flip(1), x).item() > 1e-3


def test_losses_are_fp32_under_autocast() -> None:
    x, p, weight = draw(2, 3, 4).float(), draw(2, 3, 4).float().softmax(-1), torch.ones(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = [gram(x, p).item(), distill_masked(x, p, weight).item(), mean_entropy(p.flatten(0, 1)).item()]
    expected = [gram(x, p).item(), distill_masked(x, p, weight).item(), mean_entropy(p.flatten(0, 1)).item()]
    assert found == expected
