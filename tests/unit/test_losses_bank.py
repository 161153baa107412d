"""Losses against memory banks and places, batches of margins and triplets: loops from the formulas in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from nolabel.core import UserError
from nolabel.losses.contrastive import (
    info_nce_distinct,
    info_nce_places,
    margin_batch,
    margin_pair,
    nce,
    sup_con,
    triplet_batch,
)
from nolabel.losses.information import mutual_information, place_scores, soft_clip
from nolabel.networks.memory import MemoryBank, partition


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(draw(*shape, seed=seed), dim=-1)


def dot(x: Tensor, y: Tensor) -> float:
    return sum(p * q for p, q in zip(x.tolist(), y.tolist()))


# ---- noise-contrastive estimation


def naive_nce(v: Tensor, own: Tensor, noise: Tensor, tau: float, partition: float, skip: list[int]) -> float:
    """`partition` is Z / n; with P_n = 1 / n the n cancels: m P_n / P = m (Z / n) / exp."""
    total, m = 0.0, len(noise)
    for i in range(len(v)):

        def h(row: Tensor, i: int = i) -> float:
            p = math.exp(dot(v[i], row) / tau) / partition
            return p / (p + m)

        total -= math.log(h(own[i]))
        total -= sum(math.log(1 - h(noise[k])) for k in range(m) if k != skip[i])
    return total / len(v)


def test_nce_is_the_formula() -> None:
    v, own, noise = unit(4, 5), unit(4, 5, seed=1), unit(6, 5, seed=2)
    for skip in ([-1] * 4, [3, -1, 0, 5]):
        loss, _ = nce(v, own, noise, 0.2, 1.7, torch.tensor(skip))
        assert loss.item() == pytest.approx(naive_nce(v, own, noise, 0.2, 1.7, skip), rel=1e-9)
    assert gradcheck(lambda v: nce(v, own, noise, 0.2, 1.7, torch.tensor([3, -1, 0, 5]))[0], (v.requires_grad_(),))
    assert nce(10 * v, own, noise, 0.2, 1.7)[0].item() == pytest.approx(nce(v, own, noise, 0.2, 1.7)[0].item())


def test_nce_has_the_gradient_of_the_softmax_when_the_noise_is_everything_many_times() -> None:
    """Gutmann and Hyvarinen 2010: with Z exact and much noise, NCE estimates the softmax it stands for."""
    bank, tau = unit(50, 4, seed=3), 0.5
    v = unit(1, 4).requires_grad_()
    z = (v @ bank.T / tau).exp().sum().item()
    noise = bank.repeat(400, 1)  # uniform noise, its mean exact
    (by_nce,) = torch.autograd.grad(nce(v, bank[:1], noise, tau, z / 50)[0], v)
    unit_v = F.normalize(v, dim=1)
    (full,) = torch.autograd.grad(F.cross_entropy(unit_v @ bank.T / tau, torch.tensor([0])), v)
    torch.testing.assert_close(by_nce, full, rtol=1e-2, atol=1e-3)


def test_alike_rows_are_pushed_apart_by_the_partition_of_random_ones() -> None:
    """With their own partition, as rows of an untrained net gave it, noise rows hardly push."""
    noise = F.normalize(1 + draw(256, 128) / 2, dim=1)  # cosines of 0.8
    v = noise[:1].clone().requires_grad_()
    own = (v.detach() @ noise.T / 0.07).exp().mean().item()
    assert own > 1e4
    push = [torch.autograd.grad(nce(v, noise[:1], noise, 0.07, z)[0], v)[0].norm() for z in (own, partition(128, 0.07))]
    assert push[1] > 50 * push[0]


@pytest.mark.parametrize("count", [0, 5, 12, 99])
def test_noise_knows_where_a_samples_own_row_is(count: int) -> None:
    torch.manual_seed(1)
    bank, index = MemoryBank(12, 4), torch.tensor([3, 11, 0, 7])
    drawn = bank.draw(count)
    rows, skip = bank.noise(drawn, index)
    numbers = list(range(12)) if isinstance(drawn, slice) else drawn.tolist()
    assert len(numbers) == len(set(numbers)) == (count if 0 < count < 12 else 12)
    torch.testing.assert_close(rows, bank.rows[numbers])
    for i, s in zip(index.tolist(), skip.tolist()):
        assert s == (numbers.index(i) if i in numbers else -1)


# ---- SupCon, the mean inside


def test_sup_con_inside_is_the_formula() -> None:
    z, labels, tau = draw(7, 4), [0, 1, 0, 2, 1, 0, 9], 0.3
    rows, losses = F.normalize(z, dim=1), []
    for i in range(7):
        positives = [p for p in range(7) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(dot(rows[i], rows[a]) / tau) for a in range(7) if a != i)
        if positives:
            inside = sum(math.exp(dot(rows[i], rows[p]) / tau) / below for p in positives) / len(positives)
            losses.append(-math.log(inside))
    found = sup_con(z, torch.tensor(labels), tau, inside=True)
    assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert gradcheck(lambda z: sup_con(z, torch.tensor(labels), tau, inside=True), (z.requires_grad_(),))
    two = torch.arange(4).repeat(2)  # one positive each: both forms are NT-Xent
    assert sup_con(draw(8, 4), two, tau, inside=True).item() == pytest.approx(sup_con(draw(8, 4), two, tau).item())
    assert sup_con(draw(5, 4), torch.arange(5), tau, inside=True).item() == 0  # nobody has a positive


# ---- margins and triplets


def test_margin_batch_is_the_formula() -> None:
    a, b, margin = draw(5, 3), draw(5, 3, seed=1), 2.5
    near = sum((a[i] - b[i]).square().sum().item() / 2 for i in range(5)) / 5
    gaps = [max(0.0, margin - (a[i] - b[j]).norm().item()) for i in range(5) for j in range(5) if i != j]
    loss, inside = margin_batch(a, b, margin)
    assert loss.item() == pytest.approx(near + sum(g * g / 2 for g in gaps) / 20, rel=1e-9)
    assert inside.item() == pytest.approx(sum(g > 0 for g in gaps) / 20)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    one, two = (torch.tensor(x) for x in zip(*pairs))
    apart = margin_pair(a[one], b[two], torch.zeros(20), margin)[0] + margin_pair(a, b, torch.ones(5), margin)[0]
    assert loss.item() == pytest.approx(apart.item(), rel=1e-9)
    assert gradcheck(lambda a, b: margin_batch(a, b, margin)[0], (a.requires_grad_(), b.requires_grad_()))


def test_margin_batch_known_values() -> None:
    x = torch.ones(6, 3, requires_grad=True)
    loss, inside = margin_batch(x, x.detach(), 2.0)
    assert loss.item() == pytest.approx(2.0, rel=1e-5) and inside.item() == 1
    assert torch.autograd.grad(loss, x)[0].isfinite().all()
    far = torch.arange(6.0)[:, None] * 10
    assert margin_batch(far, far, 2.0)[0].item() == 0
    few = margin_batch(far.requires_grad_(), far.detach() + 0.1, 2.0)[0]
    torch.testing.assert_close(
        torch.autograd.grad(few, far)[0], torch.full((6, 1), -0.1 / 6)
    )  # only the positives pull


@pytest.mark.parametrize("mining", ["semi", "hardest", "all"])
def test_triplet_batch_is_the_formula(mining: str) -> None:
    a, p, margin = unit(6, 3), unit(6, 3, seed=4), 0.4
    losses = []
    for i in range(6):
        near = (a[i] - p[i]).square().sum().item()
        far = [(a[i] - p[j]).square().sum().item() for j in range(6) if j != i]
        semi = [d for d in far if near < d < near + margin]
        chosen = far if mining == "all" else [min(semi) if semi and mining == "semi" else min(far)]
        losses += [max(0.0, near - d + margin) for d in chosen]
    loss, active = triplet_batch(a, p, margin, mining)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert active.item() == pytest.approx(sum(x > 0 for x in losses) / len(losses))
    turn = torch.linalg.qr(draw(3, 3, seed=7))[0]
    assert triplet_batch(a @ turn, p @ turn, margin, mining)[0].item() == pytest.approx(loss.item(), rel=1e-9)


def test_a_constant_encoder_costs_the_margin() -> None:
    x = torch.ones(5, 3)
    for mining in ("semi", "hardest", "all"):
        assert triplet_batch(x, x, 0.2, mining)[0].item() == pytest.approx(0.2)
    with pytest.raises(UserError, match="mining 'easy'"):
        triplet_batch(x, x, 0.2, "easy")


# ---- places


def naive_information(u: Tensor, bound: str) -> float:
    n, _, places = u.shape
    own = [u[i, i, s].item() for i in range(n) for s in range(places)]
    rest = [u[i, j, s].item() for i in range(n) for j in range(n) for s in range(places) if i != j]

    def softplus(x: float) -> float:
        return math.log(1 + math.exp(x))

    if bound == "jsd":
        positive = sum(math.log(2) - softplus(-x) for x in own) / len(own)
        return sum(softplus(x) - math.log(2) for x in rest) / len(rest) - positive
    if bound == "dv":
        return math.log(sum(math.exp(x) for x in rest) / len(rest)) - sum(own) / len(own)
    total = 0.0
    for i in range(n):
        others = sum(math.exp(u[i, j, s].item()) for j in range(n) for s in range(places) if j != i)
        total += sum(
            -math.log(math.exp(u[i, i, s].item()) / (math.exp(u[i, i, s].item()) + others)) for s in range(places)
        )
    return total / n / places


@pytest.mark.parametrize("bound", ["jsd", "dv", "nce"])
def test_information_is_the_formula(bound: str) -> None:
    summary, place = draw(3, 5), draw(3, 4, 5, seed=1)
    u = place_scores(summary, place)
    assert u[1, 2, 3].item() == pytest.approx(dot(summary[1], place[2, 3]), rel=1e-9)
    loss, gap = mutual_information(u, bound)
    assert loss.item() == pytest.approx(naive_information(u, bound), rel=1e-9)
    own = sum(u[i, i, s].item() for i in range(3) for s in range(4)) / 12
    assert gap.item() == pytest.approx(own - (u.sum().item() - 12 * own) / 24, rel=1e-9)
    summary.requires_grad_()
    place.requires_grad_()
    assert gradcheck(lambda s, p: mutual_information(place_scores(s, p), bound)[0], (summary, place))


def test_information_of_constant_scores() -> None:
    for value in (0.0, 3.0):
        u = torch.full((5, 5, 7), value)
        assert mutual_information(u, "dv")[0].item() == pytest.approx(0, abs=1e-5)
        assert mutual_information(u, "nce")[0].item() == pytest.approx(math.log(1 + 4 * 7), rel=1e-6)
    assert mutual_information(torch.zeros(5, 5, 7), "jsd")[0].item() == pytest.approx(0, abs=1e-6)
    u = draw(4, 4, 3)
    assert mutual_information(u + 5, "dv")[0].item() == pytest.approx(mutual_information(u, "dv")[0].item(), rel=1e-9)
    with pytest.raises(UserError, match="bound 'kl'"):
        mutual_information(u, "kl")


def test_soft_clip_stays_within() -> None:
    u = torch.linspace(-100, 100, 201)
    clipped = soft_clip(u, 10.0)
    assert clipped.abs().max() <= 10 and (clipped.diff() >= 0).all()
    torch.testing.assert_close(soft_clip(u / 1e3, 10.0), u / 1e3, rtol=1e-3, atol=1e-6)


def test_keys_of_the_same_thing_are_no_negatives_and_those_of_nothing_are_none() -> None:
    query, key, positive = draw(7, 3), draw(5, 3, seed=1), torch.tensor([0, 4, 4, 2, 1, 3, 0])
    thing, each, right = [7, 0, 3, 7, 2], [], []
    for m, p in enumerate(positive.tolist()):
        if thing[p]:
            negatives = [math.exp(dot(query[m], key[j])) for j in range(5) if thing[j] and thing[j] != thing[p]]
            own = math.exp(dot(query[m], key[p]))
            each.append(-math.log(own / (own + sum(negatives))))
            right.append(own > max(negatives))
    found, accuracy = info_nce_distinct(query, key, positive, torch.tensor(thing))
    assert found.item() == pytest.approx(sum(each) / 6, rel=1e-9) and len(each) == 6
    assert accuracy.item() == pytest.approx(sum(right) / 6)
    apart = info_nce_distinct(query, key, positive, torch.arange(1, 6))[0]
    assert apart.item() == pytest.approx(info_nce_places(query, key, positive)[0].item(), rel=1e-9)
    wants = query.requires_grad_(), key.requires_grad_()
    assert gradcheck(lambda q, k: info_nce_distinct(q, k, positive, torch.tensor(thing))[0], wants)


def test_places_are_compared_with_all_keys_as_they_are() -> None:
    query, key, positive = draw(7, 3), draw(5, 3, seed=1), torch.tensor([0, 4, 4, 2, 1, 3, 0])
    total = 0.0
    for m, p in enumerate(positive.tolist()):
        total -= math.log(math.exp(dot(query[m], key[p])) / sum(math.exp(dot(query[m], row)) for row in key))
    loss, accuracy = info_nce_places(query, key, positive)
    assert loss.item() == pytest.approx(total / 7, rel=1e-9)
    assert accuracy.item() == pytest.approx(((query @ key.T).argmax(1) == positive).double().mean().item())
    assert gradcheck(lambda q, k: info_nce_places(q, k, positive)[0], (query.requires_grad_(), key.requires_grad_()))
    assert info_nce_places(torch.zeros(7, 3), torch.ones(5, 3), positive)[0].item() == pytest.approx(math.log(5))
