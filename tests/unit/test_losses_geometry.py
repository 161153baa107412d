"""Known values of the collapse metrics."""

import math

import pytest
import torch
from torch import Tensor

from nolabel.losses.geometry import (
    alignment,
    alpha_req,
    decay,
    effective_rank,
    feature_std,
    lidar,
    mean_cosine,
    rankme,
    uniformity,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(draw(d, d).double())[0].float()


def test_random_unit_rows() -> None:
    z = torch.nn.functional.normalize(draw(3000, 128), dim=1)
    assert feature_std(z).item() == pytest.approx(0.0884 * math.sqrt(128), rel=2e-3)
    assert uniformity(z).item() == pytest.approx(-3.938, abs=2e-3)
    assert rankme(z).item() == pytest.approx(127.3, abs=0.2)
    assert mean_cosine(z).item() == pytest.approx(0, abs=1e-3)


def test_a_constant_encoder() -> None:
    z = torch.ones(500, 64)
    assert feature_std(z).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(z).item() == pytest.approx(0, abs=1e-4)
    assert rankme(z).item() == pytest.approx(1, abs=1e-3)
    assert mean_cosine(z).item() == pytest.approx(1, abs=1e-5)
    assert alignment(z, z).item() == 0
    assert alignment(z, -z).item() == pytest.approx(4)


@pytest.mark.parametrize(("n", "expected"), [(25600, 255.7), (2048, 251.8)])
def test_rankme_of_gaussians(n: int, expected: float) -> None:
    assert rankme(draw(n, 256)).item() == pytest.approx(expected, abs=0.1)


def test_rankme_counts_directions() -> None:
    columns = torch.linalg.qr(draw(600, 256).double())[0]
    assert rankme(columns).item() == pytest.approx(256, abs=0.05)
    assert rankme(draw(500, 1) @ draw(1, 64)).item() == pytest.approx(1, abs=1e-3)
    assert rankme(draw(2000, 10) @ rotation(64)[:10]).item() == pytest.approx(10, abs=0.05)
    assert rankme(draw(20, 64)).item() < 20  # fewer rows than columns
    assert effective_rank is rankme


def test_rankme_is_that_of_the_singular_values_and_invariant() -> None:
    z = draw(90, 40) * torch.linspace(0.1, 3, 40)
    sigma = torch.linalg.svdvals(z.double())
    p = sigma / sigma.sum() + 1e-7
    assert rankme(z).item() == pytest.approx(torch.exp(-(p * p.log()).sum()).item(), rel=1e-6)
    assert rankme(z.T).item() == pytest.approx(rankme(z).item(), rel=1e-6)
    assert rankme(7 * z @ rotation(40)).item() == pytest.approx(rankme(z).item(), rel=1e-5)


def test_alpha_is_the_exponent() -> None:
    power = torch.arange(1, 129, dtype=torch.double) ** -1.3
    assert decay(power).item() == pytest.approx(1.3, rel=1e-9)
    rows = torch.linalg.qr(torch.cat((torch.ones(400, 1), draw(400, 128)), 1).double())[0][:, 1:]
    z = rows * power.sqrt()
    assert alpha_req(z).item() == pytest.approx(1.3, rel=1e-6)
    assert alpha_req(5 * z + 1).item() == pytest.approx(1.3, rel=1e-6)
    assert alpha_req(draw(20000, 64)).item() == pytest.approx(0, abs=0.1)


def test_lidar_counts_what_tells_images_apart() -> None:
    means = draw(1000, 10) @ rotation(64)[:10]
    z = means[:, None] + 1e-3 * draw(1000, 10, 64, seed=1)
    assert lidar(z).item() == pytest.approx(9.95, abs=0.06)
    scaled = z.double() @ (torch.eye(64) + 0.1 * draw(64, 64, seed=2)).double()
    assert lidar(100 * scaled, delta=1e-9).item() == pytest.approx(lidar(100 * z, delta=1e-9).item(), rel=1e-3)
    with pytest.raises(ValueError, match="two views"):
        lidar(z[:, :1])


def test_alignment_and_uniformity_are_the_loops() -> None:
    a, b = draw(7, 5), draw(7, 5, seed=1)
    rows = [[x / math.hypot(*r) for x in r] for r in a.double().tolist()]
    other = [[x / math.hypot(*r) for x in r] for r in b.double().tolist()]
    assert alignment(a, b).item() == pytest.approx(sum(math.dist(x, y) ** 2 for x, y in zip(rows, other)) / 7, rel=1e-6)
    pairs = [math.exp(-2 * math.dist(rows[i], rows[j]) ** 2) for i in range(7) for j in range(i)]
    for block in (1, 3, 1024):
        assert uniformity(a, block=block).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
    cosines = [sum(x * y for x, y in zip(rows[i], rows[j])) for i in range(7) for j in range(i)]
    assert mean_cosine(a).item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)


def test_no_metric_makes_a_graph() -> None:
    z = draw(20, 8).requires_grad_()
    for metric in (feature_std, rankme, uniformity, mean_cosine, lambda x: alpha_req(x, 2, 6)):
        assert not metric(z).requires_grad and metric(z).ndim == 0
