"""Barlow Twins, VICReg and SIGReg against loops written from the formulas, and their known values."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nolabel.losses.redundancy import barlow_twins, directions, sigreg, vicreg

SHAPES = [(5, 9), (9, 5), (6, 6)]
"""more columns than rows (the Gram form), more rows than columns, square"""


def pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(n)
    a, b = torch.randn(2, n, d, generator=rng, dtype=torch.double) * 0.7 + 0.3
    return a.requires_grad_(), b.requires_grad_()


def column(x: Tensor, j: int) -> list[float]:
    values = x[:, j].double().tolist()
    mean = sum(values) / len(values)
    return [v - mean for v in values]


def naive_barlow(a: Tensor, b: Tensor, lambda_: float) -> float:
    n, d = a.shape

    def standardised(x: Tensor, j: int) -> list[float]:
        values = column(x, j)
        std = math.sqrt(sum(v * v for v in values) / n + 1e-5)
        return [v / std for v in values]

    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum(p * q for p, q in zip(standardised(a, i), standardised(b, j))) / n
            total += (1 - c) ** 2 if i == j else lambda_ * c * c
    return total


def naive_vicreg(a: Tensor, b: Tensor) -> float:
    n, d = a.shape
    total = 25 * sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist())) / (n * d)
    for x in (a, b):
        for i in range(d):
            for j in range(d):
                cov = sum(p * q for p, q in zip(column(x, i), column(x, j))) / (n - 1)
                total += 12.5 * max(0.0, 1 - math.sqrt(cov + 1e-4)) / d if i == j else cov * cov / d
    return total


def naive_sigreg(z: Tensor, a: Tensor, knots: int = 17, reach: float = 3.0) -> float:
    views, rows, slices = z.shape[0], z.shape[1], a.shape[1]
    total, dt = 0.0, reach / (knots - 1)
    for v in range(views):
        for s in range(slices):
            x = [sum(p * q for p, q in zip(z[v, b].tolist(), a[:, s].tolist())) for b in range(rows)]
            for k in range(knots):
                t = k * dt
                real = sum(math.cos(t * y) for y in x) / rows - math.exp(-t * t / 2)
                imag = sum(math.sin(t * y) for y in x) / rows
                weight = (dt if k in (0, knots - 1) else 2 * dt) * math.exp(-t * t / 2)
                total += rows * weight * (real * real + imag * imag)
    return total / (views * slices)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_are_those_of_the_formulas(shape: tuple[int, int]) -> None:
    a, b = pair(*shape)
    assert barlow_twins(a, b, 0.01)[0].item() == pytest.approx(naive_barlow(a, b, 0.01), rel=1e-9)
    assert vicreg(a, b)[0].item() == pytest.approx(naive_vicreg(a, b), rel=1e-9)
    assert barlow_twins(a.float(), b.float(), 0.01)[0].item() == pytest.approx(naive_barlow(a, b, 0.01), rel=2e-6)
    assert vicreg(a.float(), b.float())[0].item() == pytest.approx(naive_vicreg(a, b), rel=2e-6)
    z, d = torch.stack((a, b)), directions(shape[1], 4, torch.Generator().manual_seed(0)).double()
    assert sigreg(z, d).item() == pytest.approx(naive_sigreg(z, d), rel=1e-9)
    assert sigreg(z.float(), d).item() == pytest.approx(naive_sigreg(z, d), rel=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_exact(shape: tuple[int, int]) -> None:
    a, b = pair(*shape)
    d = directions(shape[1], 3, torch.Generator().manual_seed(0)).double()
    assert gradcheck(lambda a, b: barlow_twins(a, b, 0.1)[0], (a, b))
    assert gradcheck(lambda a, b: vicreg(a, b)[0], (a, b))
    assert gradcheck(lambda a, b: sigreg(torch.stack((a, b)), d), (a, b))


def test_the_parts_add_up() -> None:
    a, b = pair(6, 4)
    loss, parts = vicreg(a, b, 2.0, 3.0, 4.0)
    assert not any(part.requires_grad for part in parts.values())
    weighted = 2 * parts["invariance"] + 3 * parts["variance"] + 4 * parts["covariance"]
    torch.testing.assert_close(loss.detach(), weighted)
    loss, parts = barlow_twins(a, a, 0.5)
    assert parts["on_diagonal"].item() == pytest.approx(1, abs=1e-4)
    assert loss.item() == pytest.approx(0.5 * 12 * parts["off_diagonal"].item() ** 2, rel=1e-4)


def test_known_values_of_barlow_twins() -> None:
    n, d, lambda_ = 2048, 64, 0.0051
    a, b = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0))
    rest = lambda_ * d * (d - 1) / n
    assert barlow_twins(torch.ones(8, 12), torch.ones(8, 12))[0].item() == 12
    assert barlow_twins(a, a)[0].item() == pytest.approx(rest, rel=0.05)
    assert barlow_twins(a, b)[0].item() == pytest.approx(d * (1 + 1 / n) + rest, rel=0.01)


def test_barlow_twins_ignores_order_scale_and_sides() -> None:
    a, b = pair(6, 9)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    loss = barlow_twins(a, b)[0]
    torch.testing.assert_close(barlow_twins(b, a)[0], loss)
    torch.testing.assert_close(barlow_twins(a[order], b[order])[0], loss)
    torch.testing.assert_close(barlow_twins(3 * a + 1, 0.5 * b - 2)[0], loss, rtol=1e-3, atol=0)


def test_known_values_of_vicreg() -> None:
    assert vicreg(torch.ones(8, 12), torch.ones(8, 12))[0].item() == pytest.approx(24.75, rel=1e-6)
    n, d = 64, 16
    basis = torch.linalg.qr(
        torch.cat((torch.ones(n, 1), torch.randn(n, d, generator=torch.Generator().manual_seed(0))), 1).double()
    )
    white = basis[0][:, 1:] * math.sqrt(n - 1) * 1.1
    assert vicreg(white, white)[0].item() == pytest.approx(0, abs=1e-9)
    white.requires_grad_()
    vicreg(white, white.detach(), invariance=0, covariance=0)[0].backward()
    assert white.grad is not None and white.grad.abs().max() == 0  # the hinge is shut where the deviation is above one


def test_known_values_of_sigreg() -> None:
    rng = torch.Generator().manual_seed(0)
    assert sigreg(torch.zeros(2, 100, 8), directions(8, 16, rng)).item() == pytest.approx(40.205, rel=1e-4)
    for n in (64, 512):
        values = [
            sigreg(torch.randn(1, n, 16, generator=rng), directions(16, 64, rng)).item() for _ in range(200 * 64 // n)
        ]
        assert sum(values) / len(values) == pytest.approx(1.0525, rel=0.08)
    for scale, expected in ((1.5, 0.0842), (2.0, 0.2361), (0.5, 0.1512)):
        z = scale * torch.randn(1, 20000, 8, generator=rng)
        assert sigreg(z, directions(8, 64, rng)).item() / 20000 == pytest.approx(expected, rel=0.03)


def test_directions_are_unit_and_counted() -> None:
    a = directions(8, 16, torch.Generator().manual_seed(3))
    torch.testing.assert_close(a.norm(dim=0), torch.ones(16))
    assert torch.equal(a, directions(8, 16, torch.Generator().manual_seed(3)))
    assert not torch.equal(a, directions(8, 16, torch.Generator().manual_seed(4)))


def test_losses_are_fp32_under_autocast() -> None:
    a, b = (x.detach().float() for x in pair(6, 9))
    d = directions(9, 4, torch.Generator().manual_seed(0))
    plain = barlow_twins(a, b)[0], vicreg(a, b)[0], sigreg(torch.stack((a, b)), d)
    with torch.autocast("cpu", torch.bfloat16):
        assert (barlow_twins(a, b)[0], vicreg(a, b)[0], sigreg(torch.stack((a, b)), d)) == plain
