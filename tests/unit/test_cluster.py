"""Clusterings, neighbours and bags against loops in float64, and what they must be on data whose answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.random import deal
from nolabel.losses import cluster
from nolabel.losses.cluster import (
    bag_of_words,
    kmeans,
    local_aggregation,
    nmi,
    pca_whitening,
    sinkhorn,
    square_distances,
    usage,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def blobs(count: int, each: int, dim: int = 6) -> tuple[Tensor, Tensor]:
    """Points about well separated centres, and which centre each is of."""
    label = torch.arange(count).repeat(each)
    return 20 * draw(count, dim)[label] + draw(count * each, dim, seed=1), label


def objective(x: Tensor, centroids: Tensor, assigned: Tensor) -> float:
    return (x - centroids[assigned]).square().sum().item()


# ---- k-means ----------------------------------------------------------------------------------------------------------
def lloyd(x: list, centroids: list, rounds: int) -> list:
    """The textbook loop; no cluster becomes empty in its tests."""
    for _ in range(rounds):
        members: list = [[] for _ in centroids]
        for point in x:
            members[min(range(len(centroids)), key=lambda k: math.dist(point, centroids[k]))].append(point)
        centroids = [[sum(axis) / len(axis) for axis in zip(*m, strict=True)] for m in members]
    return centroids


@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("block", [1, 40, 2**20])
def test_kmeans_is_lloyds_loop(rounds: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster.BLOCK, "cpu", block)
    x = draw(60, 3)
    centroids, assigned = kmeans(x, 5, rounds, start_KD=x[:5])
    expected = lloyd(x.tolist(), x[:5].tolist(), rounds)
    torch.testing.assert_close(centroids, torch.tensor(expected, dtype=torch.double))
    assert torch.equal(assigned, torch.cdist(x, centroids).argmin(1))


def test_kmeans_ends_where_scikit_learn_ends_and_never_rises() -> None:
    x = draw(300, 4)
    values = [objective(x, *kmeans(x, 8, rounds, start_KD=x[:8])) for rounds in (1, 2, 4, 8, 100)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    theirs = KMeans(8, init=x[:8].numpy(), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x.numpy())
    assert values[-1] == pytest.approx(theirs.inertia_, rel=1e-6)


def test_separated_blobs_are_found() -> None:
    x, label = blobs(5, 40)
    _, assigned = kmeans(x, 5, 20, start_KD=x[:5])
    assert nmi(assigned, label) == pytest.approx(1.0)
    torch.manual_seed(0)
    _, assigned = kmeans(x, 15)
    assert all(len(label[assigned == k].unique()) <= 1 for k in range(15)), "a cluster spans two blobs"


def test_spherical_kmeans_ignores_lengths() -> None:
    x, label = blobs(5, 40)
    unit = F.normalize(x, dim=1)
    centroids, assigned = kmeans(unit, 5, 20, spherical=True, start_KD=unit[:5])
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(5).double())
    assert torch.equal(assigned, (unit @ centroids.T).argmax(1))
    mean = torch.stack([unit[assigned == k].mean(0) for k in range(5)])
    torch.testing.assert_close(centroids, F.normalize(mean, dim=1))
    assert nmi(assigned, label) == pytest.approx(1.0)


def test_empty_clusters_are_refilled() -> None:
    torch.manual_seed(0)
    x, _ = blobs(3, 60)
    start = torch.cat((x[:3], torch.full((5, 6), 1e4).double()))  # five clusters that are nobody's nearest
    assert (torch.cdist(x, start).argmin(1).bincount(minlength=8) == 0).sum() == 5
    _, assigned = kmeans(x, 8, 20, start_KD=start)
    assert (assigned.bincount(minlength=8) > 0).all()
    _, assigned = kmeans(x, 8, 20, start_KD=x[:1].repeat(8, 1))
    assert (assigned.bincount(minlength=8) > 0).all()


def test_kmeans_starts_at_rows_of_its_own() -> None:
    x = draw(7, 3)
    torch.manual_seed(0)
    centroids, assigned = kmeans(x, 7, 5)
    assert sorted(assigned.tolist()) == list(range(7))
    torch.testing.assert_close(centroids[assigned], x)
    with pytest.raises(UserError, match="8 clusters"):
        kmeans(x, 8)
    assert kmeans(x.bfloat16(), 2)[0].dtype == torch.float32


# ---- what goes into and comes out of a clustering ---------------------------------------------------------------------
def test_whitening_leaves_unit_covariance_along_the_largest_axes() -> None:
    x = draw(500, 6) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.1, 0.01]).double() + 7
    mean, matrix = pca_whitening(x, 3)
    y = (x.float() - mean) @ matrix
    torch.testing.assert_close(y.T @ y / 500, torch.eye(3), atol=1e-4, rtol=0)
    assert (matrix[:3].abs().sum(1) > 10 * matrix[3:].abs().sum(1).max()).all()


def test_whitening_drops_directions_without_variance() -> None:
    x = draw(50, 2) @ draw(2, 5, seed=3)
    mean, matrix = pca_whitening(x, 4)
    y = (x.float() - mean) @ matrix
    torch.testing.assert_close((y.T @ y / 50).diagonal(), torch.tensor([1.0, 1, 0, 0]), atol=1e-3, rtol=0)
    assert matrix.isfinite().all() and pca_whitening(x, 99)[1].shape == (5, 5)


@pytest.mark.parametrize("kinds", [(3, 7), (1, 4), (1, 1), (50, 50)])
def test_mutual_information_is_scikit_learns(kinds: tuple[int, int]) -> None:
    a, b = (torch.randint(k, (200,), generator=torch.Generator().manual_seed(k)) for k in kinds)
    theirs = normalized_mutual_info_score(a, b, average_method="geometric")
    assert nmi(a, b).item() == pytest.approx(theirs, abs=1e-6)
    assert nmi(a, a).item() == pytest.approx(1.0)


def test_usage_counts_what_is_used() -> None:
    one = F.one_hot(torch.tensor([0, 0, 3, 3, 3, 0]), 8).float()
    assert usage(one).item() == pytest.approx(2 / 8)
    assert usage(torch.full((4, 8), 1 / 8)).item() == pytest.approx(1.0)
    assert usage(one[:1]).item() == pytest.approx(1 / 8)


# ---- optimal transport of a whole set ---------------------------------------------------------------------------------
def test_transport_ends_by_its_tolerance_with_both_marginals() -> None:
    log_p = (draw(40, 6) * 2).log_softmax(1)
    q = sinkhorn(log_p, 1 / 25, 10_000, tolerance=1e-6)
    torch.testing.assert_close(q.sum(1), torch.ones(40).double())
    torch.testing.assert_close(q.sum(0), torch.full((6,), 40 / 6).double(), rtol=1e-6, atol=0)
    loose = sinkhorn(log_p, 1 / 25, 10_000, tolerance=10.0)
    assert (loose.sum(0) - 40 / 6).abs().max() > 1e-3, "a loose tolerance must end earlier"


def test_transport_is_the_best_equal_partition_at_large_lambda() -> None:
    log_p = (draw(8, 4) * 2).log_softmax(1)
    best = -math.inf
    pairs: list[tuple[int, ...]] = []

    def search(row: int, room: list[int], chosen: tuple[int, ...], value: float) -> None:
        nonlocal best, pairs
        if row == 8:
            if value > best:
                best, pairs = value, [chosen]
            return
        for k in range(4):
            if room[k]:
                rest = [r - (j == k) for j, r in enumerate(room)]
                search(row + 1, rest, (*chosen, k), value + log_p[row, k].item())

    search(0, [2] * 4, (), 0.0)
    q = sinkhorn(log_p, 1 / 50, 5000, tolerance=1e-3)
    assert tuple(q.argmax(1).tolist()) == pairs[0]
    assert q.amax(1).min() > 0.9


# ---- losses -----------------------------------------------------------------------------------------------------------
def naive_local_aggregation(v: Tensor, bank: Tensor, index: Tensor, labels: Tensor, k: int, tau: float) -> float:
    total = 0.0
    for row, own in zip(v.tolist(), index.tolist(), strict=True):
        length = math.hypot(*row)
        scores = [sum(a / length * b for a, b in zip(row, other, strict=True)) for other in bank.tolist()]
        order = sorted((j for j in range(len(bank)) if j != own), key=lambda j: -scores[j])[: k - 1]
        background = [own, *order]
        close = [j for j in background if any(h[j] == h[own] for h in labels.tolist())]
        mass = {j: math.exp(scores[j] / tau) for j in background}
        total -= math.log(sum(mass[j] for j in close) / sum(mass.values()))
    return total / len(v)


@pytest.mark.parametrize("k", [1, 6, 20, 99])
def test_local_aggregation_is_the_formula(k: int) -> None:
    bank, v, index = F.normalize(draw(20, 5), dim=1), draw(4, 5, seed=1), torch.tensor([3, 19, 0, 7])
    labels = torch.randint(5, (3, 20), generator=torch.Generator().manual_seed(0))
    loss, _ = local_aggregation(v, bank, index, labels, k, 0.07)
    assert loss.item() == pytest.approx(naive_local_aggregation(v, bank, index, labels, min(k, 20), 0.07), rel=1e-6)


def test_local_aggregation_at_its_ends() -> None:
    bank, index = F.normalize(draw(20, 5), dim=1), torch.arange(4)
    v = draw(4, 5, seed=1).requires_grad_()
    own = torch.arange(20)[None]
    loss, close = local_aggregation(v, bank, index, own, 20, 0.5)
    softmax = -((F.normalize(v, dim=1) @ bank.T / 0.5).log_softmax(1)[index, index]).mean()
    assert loss.item() == pytest.approx(softmax.item()) and close == 1
    loss, close = local_aggregation(v, bank, index, torch.zeros_like(own), 6, 0.5)
    assert loss.item() == pytest.approx(0.0, abs=1e-9) and close == 6
    constant, _ = local_aggregation(v, bank[:1].repeat(20, 1), index, own, 6, 0.5)
    assert constant.item() == pytest.approx(math.log(6))
    (grad,) = torch.autograd.grad(local_aggregation(v, bank, index, own, 6, 0.5)[0], v)
    assert grad.any() and not bank.requires_grad


def test_distances_are_those_of_the_loop() -> None:
    x, words = draw(2, 3, 4), draw(5, 4, seed=1)
    expected = [[[math.dist(p, w) ** 2 for w in words.tolist()] for p in rows] for rows in x.tolist()]
    torch.testing.assert_close(square_distances(x, words), torch.tensor(expected, dtype=torch.double))
    assert (square_distances(100 + x, 100 + x[0]) >= 0).all()


def test_bags_are_the_formula() -> None:
    distance, sharp = draw(2, 3, 5).square(), 1.7
    for bag, places in zip(bag_of_words(distance, sharp), distance.tolist(), strict=True):
        best = [0.0] * 5
        for d in places:
            mass = [math.exp(-sharp * x) for x in d]
            best = [max(b, m / sum(mass)) for b, m in zip(best, mass, strict=True)]
        torch.testing.assert_close(bag, torch.tensor([b / sum(best) for b in best], dtype=torch.double))
    hard = bag_of_words(torch.tensor([[[0.0, 1, 1, 1], [1.0, 1, 0, 1]]]), 1000.0)
    torch.testing.assert_close(hard, torch.tensor([[0.5, 0, 0.5, 0]]))


# ---- dealing ----------------------------------------------------------------------------------------------------------
def test_dealing_is_even_and_depends_on_sample_and_step_alone() -> None:
    index = torch.arange(40_000)
    hands = deal(index, 3, 4)
    assert (hands.bincount() - 10_000).abs().max() < 400 and len(hands.bincount()) == 4
    assert torch.equal(deal(index[100:200], 3, 4), hands[100:200])
    pairs = (hands * 4 + deal(index, 4, 4)).bincount(minlength=16)
    assert (pairs - 2500).abs().max() < 250, "two steps must deal independently"
    neighbours = (hands[1:] * 4 + hands[:-1]).bincount(minlength=16)
    assert (neighbours - 2500).abs().max() < 250
    over_steps = torch.cat([deal(index[5:6], step, 4) for step in range(4000)]).bincount()
    assert (over_steps - 1000).abs().max() < 120
