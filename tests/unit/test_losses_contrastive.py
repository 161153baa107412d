"""Contrastive losses against loops written from the formulas, their known values and their symmetries."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from nolabel.losses import contrastive
from nolabel.losses.contrastive import (
    clip,
    info_nce,
    info_nce_batch,
    margin_pair,
    mine_negatives,
    nt_xent,
    sup_con,
    triplet,
)


def pair(n: int = 7, d: int = 5, dtype: torch.dtype = torch.double) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(n)
    a, b = torch.randn(2, n, d, generator=rng, dtype=torch.double).to(dtype)
    return a.requires_grad_(), b.requires_grad_()


def unit(rows: Tensor) -> list[list[float]]:
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.double().tolist()]


def dot(x: list[float], y: list[float]) -> float:
    return sum(p * q for p, q in zip(x, y))


def naive_nt_xent(a: Tensor, b: Tensor, tau: float) -> tuple[float, float]:
    z, n, total, right = unit(a) + unit(b), len(a), 0.0, 0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = {k: dot(z[i], z[k]) / tau for k in range(2 * n) if k != i}
        total -= math.log(math.exp(others[j]) / sum(math.exp(s) for s in others.values()))
        right += all(others[j] > s for k, s in others.items() if k != j)
    return total / (2 * n), right / (2 * n)


def naive_info_nce(query: Tensor, positive: Tensor, keys: Tensor, tau: float) -> float:
    q, p, k, total = unit(query), unit(positive), keys.double().tolist(), 0.0
    for i in range(len(q)):
        own = math.exp(dot(q[i], p[i]) / tau)
        total -= math.log(own / (own + sum(math.exp(dot(q[i], row) / tau) for row in k)))
    return total / len(q)


def naive_clip(a: Tensor, b: Tensor, scale: float) -> float:
    x, y, n, total = unit(a), unit(b), len(a), 0.0
    for i in range(n):
        across = sum(math.exp(scale * dot(x[i], y[j])) for j in range(n))
        down = sum(math.exp(scale * dot(x[j], y[i])) for j in range(n))
        total += math.log(across) + math.log(down) - 2 * scale * dot(x[i], y[i])
    return total / (2 * n)


def naive_sup_con(z: Tensor, labels: list[int], tau: float) -> float:
    rows, losses = unit(z), []
    for i in range(len(rows)):
        positives = [p for p in range(len(rows)) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(dot(rows[i], rows[a]) / tau) for a in range(len(rows)) if a != i)
        if positives:
            losses.append(
                -sum(math.log(math.exp(dot(rows[i], rows[p]) / tau) / below) for p in positives) / len(positives)
            )
    return sum(losses) / len(losses)


def dense_nt_xent(a: Tensor, b: Tensor, tau: float) -> Tensor:
    z = F.normalize(torch.cat((a, b)), dim=1)
    scores = (z @ z.T / tau).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(scores, torch.arange(len(z)).roll(len(a)))


@pytest.fixture(params=[1, 3, 2**21])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of one row, of a few with a rest, and one for all."""
    monkeypatch.setattr(contrastive, "SIDE", min(3, request.param))
    monkeypatch.setitem(contrastive.TILE, "cpu", 1 if request.param < 9 else request.param)
    return request.param


@pytest.mark.parametrize("tau", [0.07, 0.5, 5.0])
def test_nt_xent_is_the_formula(tile: int, tau: float) -> None:
    a, b = pair()
    loss, accuracy = nt_xent(a, b, tau)
    expected = naive_nt_xent(a, b, tau)
    assert (loss.item(), accuracy.item()) == pytest.approx(expected, rel=1e-9)
    single = nt_xent(a.float(), b.float(), tau)[0]
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected[0], rel=1e-6)


def test_gradients_are_exact(tile: int) -> None:
    a, b = pair(5, 4)
    keys, labels = F.normalize(pair(9, 4)[0].detach(), dim=1), torch.tensor([3, 1, 3, 3, -2])
    scale = torch.full((1,), 3.0, dtype=torch.double, requires_grad=True)
    assert gradcheck(lambda a, b: nt_xent(a, b, 0.3)[0], (a, b))
    assert gradcheck(lambda a, b: info_nce(a, b, keys, 0.3)[0], (a, b))
    assert gradcheck(lambda a, b: info_nce_batch(a, b, 0.3)[0], (a, b))
    assert gradcheck(lambda a, b, s: clip(a, b, s)[0], (a, b, scale))
    assert gradcheck(lambda a: sup_con(a, labels, 0.3), (a,))
    assert gradcheck(lambda a, b: margin_pair(a, b, labels == 3, 4.0)[0], (a, b))
    assert gradcheck(lambda a, b: triplet(a, b, b.roll(1, 0), 0.2)[0], (a, b))


def test_gradient_equals_the_dense_matrix_at_size() -> None:
    a, b = pair(300, 32, torch.float)
    ours = torch.autograd.grad(nt_xent(a, b, 0.1)[0], (a, b))
    dense = torch.autograd.grad(dense_nt_xent(a.double(), b.double(), 0.1), (a, b))
    for x, y in zip(ours, dense):
        assert (x - y).norm() < 1e-6 * y.norm()


def test_the_loss_can_be_used_twice_and_partly() -> None:
    a, b = pair()
    loss, _ = nt_xent(a, b, 0.2)
    (once,) = torch.autograd.grad(loss, a, retain_graph=True)
    (again,) = torch.autograd.grad(3 * loss + loss, a)
    torch.testing.assert_close(again, 4 * once)
    (alone,) = torch.autograd.grad(nt_xent(a, b.detach(), 0.2)[0], a)
    torch.testing.assert_close(alone, once)
    assert not nt_xent(a.detach(), b.detach(), 0.2)[0].requires_grad


@pytest.mark.parametrize("n", [2, 8, 100])
def test_a_constant_encoder_has_the_known_losses(n: int) -> None:
    x, label = torch.ones(n, 4), torch.arange(n)
    assert nt_xent(x, x, 0.1)[0].item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)
    for width in (4, 100, 128):
        row = torch.randn(1, width, generator=torch.Generator().manual_seed(width)).expand(n, -1)
        assert nt_xent(row, row, 0.1)[1].item() == 0  # ties are not right
    assert info_nce(x, x, F.normalize(torch.ones(5 * n, 4), dim=1), 0.07)[0].item() == pytest.approx(
        math.log(1 + 5 * n), rel=1e-6
    )
    assert info_nce_batch(x, x, 0.2)[0].item() == pytest.approx(math.log(n), rel=1e-6)
    assert clip(x, x, 100.0)[0].item() == pytest.approx(math.log(n), rel=2e-5)
    assert sup_con(torch.cat((x, x)), label.repeat(2), 0.1).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


def test_orthonormal_keys_have_the_closed_form() -> None:
    n, tau, eye = 6, 0.2, torch.eye(6)
    loss, accuracy = info_nce_batch(eye, eye, tau)
    assert loss.item() == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / tau)), rel=1e-5)
    assert accuracy.item() == 1


def test_info_nce_clip_and_sup_con_are_the_formulas(tile: int) -> None:
    a, b = pair()
    keys = F.normalize(pair(11, 5)[0].detach(), dim=1)
    assert info_nce(a, b, keys, 0.2)[0].item() == pytest.approx(naive_info_nce(a, b, keys, 0.2), rel=1e-9)
    assert clip(a, b, 5.0)[0].item() == pytest.approx(naive_clip(a, b, 5.0), rel=1e-9)
    labels = [4, -1, 4, 9, 4, 7, 9]
    assert sup_con(a, torch.tensor(labels), 0.2).item() == pytest.approx(naive_sup_con(a, labels, 0.2), rel=1e-9)


def test_special_cases_meet() -> None:
    a, b = pair()
    label = torch.arange(7).repeat(2)
    torch.testing.assert_close(sup_con(torch.cat((a, b)), label, 0.2), nt_xent(a, b, 0.2)[0])
    bank = F.normalize(b.detach(), dim=1)
    full = info_nce(a, bank, bank, 0.2, skip_B=torch.arange(7))  # instance discrimination: the bank holds the positive
    torch.testing.assert_close(full[0], info_nce_batch(a, b, 0.2)[0])


def test_symmetries() -> None:
    a, b = pair()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    loss = nt_xent(a, b, 0.2)[0]
    torch.testing.assert_close(nt_xent(a[order], b[order], 0.2)[0], loss)
    torch.testing.assert_close(nt_xent(b, a, 0.2)[0], loss)
    torch.testing.assert_close(nt_xent(3 * a, 0.1 * b, 0.2)[0], loss)
    assert not torch.allclose(nt_xent(a[order], b, 0.2)[0], loss)
    keys = F.normalize(pair(11, 5)[0].detach(), dim=1)
    torch.testing.assert_close(info_nce(a, b, keys.flip(0), 0.2), info_nce(a, b, keys, 0.2))


@pytest.mark.parametrize("tau", [1e-3, 0.01, 100.0])
def test_no_temperature_overflows(tau: float) -> None:
    a, b = pair(64, 16, torch.float)
    (-nt_xent(a, b, tau)[0]).backward()
    wide = dense_nt_xent(a.detach().double(), b.detach().double(), tau)
    assert nt_xent(a, b, tau)[0].item() == pytest.approx(wide.item(), rel=2e-5)
    assert a.grad is not None and a.grad.isfinite().all()


def test_bf16_is_close_to_fp32() -> None:
    a, b = pair(256, 64, torch.float)
    exact, narrow = nt_xent(a, b, 0.1), nt_xent(a, b, 0.1, precision="bf16")
    assert narrow[0].item() == pytest.approx(exact[0].item(), rel=1e-3)
    x, y = (torch.autograd.grad(loss, a)[0] for loss, _ in (exact, narrow))
    assert (x - y).norm() < 0.02 * x.norm()
    keys = F.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    exact, narrow = info_nce(a, b, keys, 0.1), info_nce(a, b, keys.bfloat16(), 0.1)
    assert narrow[0].item() == pytest.approx(exact[0].item(), rel=1e-3)


def test_losses_are_fp32_under_autocast() -> None:
    a, b = pair(64, 16, torch.float)
    plain = nt_xent(a, b, 0.1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(a, b, 0.1)[0], plain)
    half = nt_xent(a.bfloat16(), b.bfloat16(), 0.1)[0]
    assert half.dtype == torch.float32


def test_keys_may_change_in_place_before_backward() -> None:
    a, b = pair()
    keys = F.normalize(pair(11, 5)[0].detach(), dim=1)
    (expected,) = torch.autograd.grad(info_nce(a, b, keys, 0.2)[0], a)
    loss, _ = info_nce(a, b, keys, 0.2)
    keys.zero_()
    assert torch.equal(torch.autograd.grad(loss, a)[0], expected)


def test_margin_pair_is_the_formula() -> None:
    a, b = pair()
    same = torch.tensor([1, 0, 1, 0, 0, 1, 0])
    losses, inside = [], []
    for x, y, s in zip(a.tolist(), b.tolist(), same.tolist()):
        d = math.dist(x, y)
        losses.append(0.5 * d * d if s else 0.5 * max(0.0, 3.0 - d) ** 2)
        inside += [] if s else [d < 3.0]
    loss, share = margin_pair(a, b, same, 3.0)
    assert loss.item() == pytest.approx(sum(losses) / 7, rel=1e-6)
    assert share.item() == pytest.approx(sum(inside) / 4)
    x = torch.zeros(3, 2, requires_grad=True)
    margin_pair(x, torch.zeros(3, 2), torch.zeros(3), 1.0)[0].backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert margin_pair(x, x, torch.zeros(3), 2.0)[0].item() == pytest.approx(2.0, rel=1e-5)  # m^2 / 2


def test_triplet_is_the_formula() -> None:
    (a, p), n = pair(), pair(7, 5)[0].detach().flip(0)
    for squared in (True, False):
        losses = []
        for x, y, z in zip(a.tolist(), p.tolist(), n.tolist()):
            near, far = math.dist(x, y), math.dist(x, z)
            losses.append(max(0.0, (near**2 - far**2 if squared else near - far) + 0.2))
        loss, active = triplet(a, p, n, 0.2, squared)
        assert loss.item() == pytest.approx(sum(losses) / 7, rel=1e-6)
        assert active.item() == pytest.approx(sum(x > 0 for x in losses) / 7)
    assert triplet(a, a, a, 0.3)[0].item() == pytest.approx(0.3)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1)))[0]
    torch.testing.assert_close(triplet(a @ turn, p @ turn, n @ turn), triplet(a, p, n))


def test_mining_finds_the_hardest_and_the_semi_hard() -> None:
    anchor, positive = torch.zeros(2, 1), torch.ones(2, 1)
    pool = torch.tensor([[0.5], [1.2], [3.0]])
    allowed = torch.tensor([[True, True, True], [False, False, True]])
    assert mine_negatives(anchor, positive, pool, allowed).tolist() == [0, 2]
    assert mine_negatives(anchor, positive, pool, allowed, margin=0.5).tolist() == [1, 2]
