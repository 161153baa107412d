"""Semi-supervised losses against float64 loops written from the papers, and their known values."""

import copy
import math

import pytest
import torch
from torch import nn

from nolabel.losses import semi
from nolabel.networks.norm import still_statistics


def draw(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def probabilities(row):
    top = max(row)
    e = [math.exp(v - top) for v in row]
    return [v / sum(e) for v in e]


def close(value, want):
    assert float(value) == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_fixmatch():
    strong, weak = draw(9, 4), draw(9, 4, seed=1)
    total, sure = 0.0, 0
    for s, w in zip(strong.tolist(), weak.tolist()):
        q = probabilities(w)
        if max(q) >= 0.7:
            sure += 1
            total -= math.log(probabilities(s)[q.index(max(q))])
    assert 0 < sure < 9
    loss, share = semi.fixmatch(strong, weak, 0.7)
    close(loss, total / 9)
    close(share, sure / 9)
    assert semi.fixmatch(strong, weak, 1.0)[0] == 0
    close(semi.fixmatch(strong, weak, 0.0)[0], float(nn.functional.cross_entropy(strong, weak.argmax(1))))


def test_only_the_strong_view_has_gradient():
    for loss in (lambda s, w: semi.fixmatch(s, w, 0.5)[0], lambda s, w: semi.uda(s, w, 0.4, 0.5)[0],
                 semi.squared_difference):  # fmt: skip
        strong, weak = draw(6, 4).requires_grad_(), draw(6, 4, seed=1).requires_grad_()
        loss(strong, weak).backward()
        assert strong.grad.abs().sum() > 0 and weak.grad is None


def test_uda():
    strong, weak = draw(9, 4), draw(9, 4, seed=1)
    total, sure = 0.0, 0
    for s, w in zip(strong.tolist(), weak.tolist()):
        if max(probabilities(w)) > 0.7:
            sure += 1
            q, p = probabilities([v / 0.4 for v in w]), probabilities(s)
            total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p))
    loss, share = semi.uda(strong, weak, 0.4, 0.7)
    close(loss, total / 9)
    close(share, sure / 9)
    close(semi.uda(strong, weak, 1e-4, 0.7)[0], float(semi.fixmatch(strong, weak, 0.7)[0]))  # T -> 0: hard labels


def test_annealed_cross_entropy():
    logits, label = draw(12, 4, scale=1), torch.arange(12) % 4
    losses = [-math.log(p[y]) for row, y in zip(logits.tolist(), label.tolist())
              if (p := probabilities(row))[y] < 0.3]  # fmt: skip
    assert 0 < len(losses) < 12
    loss, share = semi.annealed_cross_entropy(logits, label, 0.3)
    close(loss, sum(losses) / len(losses))
    close(share, len(losses) / 12)
    assert semi.annealed_cross_entropy(logits, label, 0.0)[0] == 0
    close(semi.annealed_cross_entropy(logits, label, 2.0)[0], float(nn.functional.cross_entropy(logits, label)))


def test_weighted_cross_entropy():
    logits, label, weight = draw(7, 3), torch.arange(7) % 3, draw(7, seed=2).abs()
    each = [-math.log(probabilities(row)[y]) for row, y in zip(logits.tolist(), label.tolist())]
    want = sum(w * x for w, x in zip(weight.tolist(), each)) / float(weight.sum())
    close(semi.weighted_cross_entropy(logits, label, weight), want)
    soft = draw(7, 3, seed=4).softmax(1)
    each = [-sum(q * math.log(p) for q, p in zip(target, probabilities(row)))
            for row, target in zip(logits.tolist(), soft.tolist())]  # fmt: skip
    want = sum(w * x for w, x in zip(weight.tolist(), each)) / float(weight.sum())
    close(semi.weighted_cross_entropy(logits, soft, weight), want)
    ones = torch.ones(7)
    close(semi.weighted_cross_entropy(logits, label, ones), float(nn.functional.cross_entropy(logits, label)))
    assert semi.weighted_cross_entropy(logits, label, 0 * ones) == 0


def test_squared_difference():
    student, teacher = draw(5, 4), draw(5, 4, seed=1)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist()):
        total += sum((a - b) ** 2 for a, b in zip(probabilities(s), probabilities(t))) / 4
    close(semi.squared_difference(student, teacher), total / 5)


def test_entropy():
    logits = draw(6, 5)
    want = sum(-sum(p * math.log(p) for p in probabilities(row)) for row in logits.tolist()) / 6
    close(semi.entropy(logits), want)
    close(semi.entropy(torch.zeros(3, 10)), math.log(10))
    assert semi.entropy(torch.tensor([[1e4, 0.0, -1e4]])) == 0
    x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    semi.entropy(x).backward()
    assert x.grad[0, 0] < 0 < x.grad[0, 1], "descent makes the likelier class likelier"


def test_virtual_adversary_of_a_linear_net_is_the_top_eigenvector_of_its_fisher_matrix():
    torch.manual_seed(0)
    w, x = draw(4, 6, scale=1), draw(3, 6, seed=5, scale=0.3)

    def net(z):
        return z @ w.T

    step = semi.virtual_adversary(net, x, 2.0, xi=1e-4, iterations=60)
    assert torch.allclose(step.norm(dim=1), torch.full((3,), 2.0, dtype=step.dtype))
    for i in range(3):
        p = net(x[i]).softmax(0)
        fisher = w.T @ (p.diag() - p[:, None] @ p[None]) @ w
        top = torch.linalg.eigh(fisher).eigenvectors[:, -1]
        assert abs(float(top @ step[i])) == pytest.approx(2.0, rel=1e-3)
    assert semi.virtual_adversary(net, x, 2.0, iterations=0).norm(dim=1).sub(2).abs().max() < 1e-9


def test_virtual_adversary_beats_a_random_step_in_float32():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 5)), torch.randn(16, 30)

    def moved(step):
        p, q = net(x).log_softmax(1), net(x + step).log_softmax(1)
        return (p.exp() * (p - q)).sum(1).mean().item()

    worst, chance = (moved(semi.virtual_adversary(net, x, 1.0, iterations=k)) for k in (1, 0))
    assert worst > 3 * chance
    assert all(p.grad is None for p in net.parameters())


def test_the_direction_in_float32_is_that_of_float64():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(300, 40), nn.ReLU(), nn.Linear(40, 8)), torch.randn(16, 300)

    def found(net, x, **settings):
        torch.manual_seed(1)  # the same start: randn_like would draw other numbers in float64
        start = torch.randn(16, 300)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda like: start.to(like))
            return semi.virtual_adversary(net, x, 1.0, **settings).double()

    true = found(copy.deepcopy(net).double(), x.double(), xi=1e-6)
    assert (found(net, x) * true).sum(1).mean() > 0.99
    assert (found(net, x, xi=1e-6) * true).sum(1).mean() < 0.9, "the paper's xi drowns"


def test_still_statistics():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.randn(8, 4)
    with still_statistics(net):
        inside = net(x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(net(x), inside) and not torch.equal(net[1].running_mean, before["1.running_mean"])


def test_most_confident_by_sorting():
    p = draw(60, 3, seed=7).softmax(1)
    allowed = torch.arange(60) % 4 != 0
    chosen = semi.most_confident(p, allowed, 0.3)
    for c in range(3):
        rows = [i for i in range(60) if allowed[i] and int(p[i].argmax()) == c]
        best = sorted(rows, key=lambda i: -float(p[i].max()))[: round(0.3 * len(rows))]
        assert {i for i in rows if chosen[i]} == set(best)
    whole = semi.most_confident(p, allowed, 0.3, per_class=False)
    assert whole.sum() == round(0.3 * 45) and not whole[~allowed].any()
    assert p.amax(1)[whole].min() >= p.amax(1)[allowed & ~whole].max()
    assert torch.equal(semi.most_confident(p, allowed, 1.0), allowed)


def test_balanced_weights():
    p = draw(300, 3, seed=8).softmax(1)
    allowed = torch.arange(300) % 5 != 0
    guess, sure = p.argmax(1), p.amax(1)
    for wanted in (10, 500, 0):
        weight = semi.balanced_weights(p, allowed, 0.5, wanted)
        sums = torch.zeros(3).double().index_add_(0, guess, weight)
        assert torch.allclose(sums, sums[:1].expand(3)) and not weight[~allowed | (sure <= 0.5)].any()
        if wanted:
            assert torch.allclose(sums, torch.full((3,), float(wanted)).double())
    few = semi.balanced_weights(p, allowed, 0.5, 10)
    for c in range(3):
        own = allowed & (guess == c) & (sure > 0.5)
        assert sure[own & (few > 0)].min() >= sure[own & (few == 0)].max()
    assert not semi.balanced_weights(p, allowed, 1.0, 0).any()
