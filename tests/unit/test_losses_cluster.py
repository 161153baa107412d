"""Sinkhorn codes against the textbook iteration in float64, and swapped prediction."""

import math

import pytest
import torch
from torch import Tensor

from nolabel.losses.cluster import sinkhorn, swap, targets, teacher_logs


def scores(b: int = 256, k: int = 50, std: float = 0.3) -> Tensor:
    return std * torch.randn(b, k, generator=torch.Generator().manual_seed(0))


def naive(s: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The iteration as printed: in turn every prototype and every sample gets its mass."""
    b, k = s.shape
    q = [[math.exp(x / epsilon) for x in row] for row in s.double().tolist()]
    for _ in range(iterations):
        for j in range(k):
            mass = sum(row[j] for row in q)
            for row in q:
                row[j] /= mass * k
        for row in q:
            mass = sum(row)
            row[:] = [x / mass / b for x in row]
    return torch.tensor(q, dtype=torch.double) * b


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_is_the_textbook_iteration(iterations: int) -> None:
    s = scores(12, 5)
    torch.testing.assert_close(sinkhorn(s.double(), 0.05, iterations), naive(s, 0.05, iterations), rtol=1e-9, atol=0)
    torch.testing.assert_close(sinkhorn(s, 0.05, iterations).double(), naive(s, 0.05, iterations), rtol=1e-4, atol=1e-7)


def test_samples_sum_to_one_and_prototypes_come_closer() -> None:
    errors = []
    for iterations in (1, 3, 10, 100):
        q = sinkhorn(scores(), 0.05, iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(256), rtol=1e-5, atol=0)
        errors.append((q.sum(0) * 50 / 256 - 1).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5 and errors[1] > 0.1 and errors[2] < 0.3 and errors[3] < 1e-4


def test_limits_and_symmetries() -> None:
    s = scores(32, 8)
    q = sinkhorn(s)
    torch.testing.assert_close(sinkhorn(s + 3), q, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(sinkhorn(s.flip(0)).flip(0), q, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(sinkhorn(torch.zeros(16, 4)), torch.full((16, 4), 0.25))
    torch.testing.assert_close(sinkhorn(s, 1e4), torch.full((32, 8), 0.125), rtol=1e-3, atol=0)
    assert sinkhorn(s, 1e-3, 50).amax(1).mean() > 0.95


def test_extreme_scores_stay_finite() -> None:
    s = scores(32, 8)
    s[:, 3] = -100.0  # a prototype that nobody wants
    s[5] = -1000.0  # a sample far from everything
    q = sinkhorn(s, 0.01)
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(1), torch.ones(32), rtol=1e-5, atol=0)


def test_no_gradient_and_the_scores_stay() -> None:
    s = scores(8, 4).requires_grad_()
    before = s.detach().clone()
    assert not sinkhorn(s).requires_grad
    assert torch.equal(s.detach(), before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinkhorn(s), sinkhorn(before))
    assert sinkhorn(before.bfloat16()).dtype == torch.float32


def test_swap_is_the_formula() -> None:
    views, k = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)).double(), 5
    codes = torch.stack([sinkhorn(v) for v in views[:2]])
    total = 0.0
    for t in range(2):
        for v in range(4):
            if v != t:
                for b in range(3):
                    below = sum(math.exp(views[v, b, j].item() / 0.1) for j in range(k))
                    for j in range(k):
                        log_p = math.log(math.exp(views[v, b, j].item() / 0.1) / below)
                        total -= codes[t, b, j].item() * log_p / 2 / 3 / 3
    assert swap(views, codes).item() == pytest.approx(total, rel=1e-9)


def test_a_constant_encoder_costs_log_k() -> None:
    views = torch.zeros(4, 6, 3000)
    codes = [sinkhorn(v) for v in views[:2]]
    assert swap(views, codes).item() == pytest.approx(8.006, abs=1e-3)


# ---- what a teacher asks


def test_targets_are_centred_softmax_or_codes_of_all_rows() -> None:
    x, center = scores(12, 5).view(3, 4, 5).requires_grad_(), scores(1, 5)[0]
    rows = [[math.exp((v - c) / 0.1) for v, c in zip(r, center.tolist())] for r in x.flatten(0, 1).tolist()]
    expected = torch.tensor([[v / sum(row) for v in row] for row in rows]).view(3, 4, 5)
    torch.testing.assert_close(targets(x, 0.1, center), expected)
    torch.testing.assert_close(targets(x, 0.1).flatten(0, 1), sinkhorn(x.flatten(0, 1), 0.1))
    weight = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
    kept = weight.flatten().bool()
    torch.testing.assert_close(targets(x, 0.1, weight=weight).flatten(0, 1)[kept], sinkhorn(x.flatten(0, 1)[kept], 0.1))
    assert not targets(x, 0.1, center).requires_grad and not targets(x, 0.1).requires_grad


def test_logs_of_a_teacher_tell_both_collapses_apart() -> None:
    uniform, one = torch.full((2, 3, 8), 1 / 8), torch.eye(8)[[4] * 6].view(2, 3, 8)
    known = {"uniform": (uniform, math.log(8), 1.0), "one": (one, 0.0, 1 / 8), "each": (torch.eye(8), 0.0, 1.0)}
    for p, entropy, used in known.values():
        logs = teacher_logs(p)
        assert logs["teacher_entropy"].item() == pytest.approx(entropy, abs=1e-6)
        assert logs["prototypes_used"].item() == pytest.approx(used, rel=1e-5)
