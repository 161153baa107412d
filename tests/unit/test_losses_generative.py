"""Losses of generative methods against float64 loops, and their known values."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from nolabel.losses import generative
from nolabel.losses.weighted import masked_mean, weighted_mean


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


@pytest.mark.parametrize("cross_entropy", [False, True])
def test_emphasised(cross_entropy):
    guess, target, hit = draw(4, 7), draw(4, 7, seed=1).sigmoid(), draw(4, 7, seed=2) > 0.3
    inside = outside = 0.0
    for b in range(4):
        for j in range(7):
            z, x = float(guess[b, j]), float(target[b, j])
            p = sigmoid(z)
            each = -x * math.log(p) - (1 - x) * math.log(1 - p) if cross_entropy else (x - z) ** 2
            inside, outside = (inside + each / 4, outside) if hit[b, j] else (inside, outside + each / 4)
    loss, a, b = generative.emphasised(guess, target, hit, 1.5, 0.5, cross_entropy)
    assert [float(v) for v in (loss, a, b)] == pytest.approx([1.5 * inside + 0.5 * outside, inside, outside], rel=1e-6)
    plain, *_ = generative.emphasised(guess, target, hit, 1.0, 1.0, cross_entropy)
    assert float(plain) == pytest.approx(inside + outside, rel=1e-6)


def test_full_emphasis_leaves_the_others_without_gradient():
    guess, hit = draw(3, 5).requires_grad_(), draw(3, 5, seed=2) > 0
    generative.emphasised(guess, draw(3, 5, seed=1), hit, 1.0, 0.0)[0].backward()
    assert torch.equal(guess.grad != 0, hit)


def test_gaussian_kl():
    mean, log_variance = draw(6, 4), draw(6, 4, seed=1)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(()), torch.ones(())))
    assert torch.allclose(generative.gaussian_kl(mean, log_variance), theirs.mean(0), rtol=1e-6)
    zero = torch.zeros(3, 2)
    assert torch.equal(generative.gaussian_kl(zero, zero), torch.zeros(2))
    assert torch.equal(generative.gaussian_kl(zero + 1, zero), torch.full((2,), 0.5))


def test_two_sides_of_a_gan():
    real, fake = draw(6), draw(5, seed=1)
    want = sum(-math.log(sigmoid(v)) for v in real.tolist()) / 6
    want += sum(-math.log(1 - sigmoid(v)) for v in fake.tolist()) / 5
    assert float(generative.critic_loss(real, fake)) == pytest.approx(want, rel=1e-6)
    fooled = sum(-math.log(sigmoid(v)) for v in fake.tolist()) / 5
    assert float(generative.fooling_loss(fake)) == pytest.approx(fooled, rel=1e-6)
    assert float(generative.critic_loss(torch.zeros(3), torch.zeros(3))) == pytest.approx(1.3863, abs=1e-4)
    assert float(generative.right_side(torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -2.0]))) == 0.75


def test_means_with_weights():
    each, weight = draw(5), draw(5, seed=1).abs()
    assert float(weighted_mean(each, weight)) == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-6)
    assert weighted_mean(each, 0 * weight) == 0
    image, mask = draw(2, 3, 4, 4), draw(2, 1, 4, 4, seed=1) > 0
    want = sum(float(image[b, c, i, j]) / (3 * int(mask[b].sum()))
               for b in range(2) for c in range(3) for i in range(4) for j in range(4) if mask[b, 0, i, j])  # fmt: skip
    assert float(masked_mean(image, mask)) == pytest.approx(want / 2, rel=1e-6)


def test_soft_cross_entropy():
    logits, which = draw(2, 6, 2, 2), torch.randint(6, (2, 2, 2, 3), generator=torch.Generator().manual_seed(0))
    weight = draw(2, 2, 2, 3, seed=3).softmax(-1)
    loss = generative.soft_cross_entropy(logits, which, weight)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                log_p = logits[b, :, i, j] - logits[b, :, i, j].logsumexp(0)
                want = -sum(float(weight[b, i, j, k]) * float(log_p[which[b, i, j, k]]) for k in range(3))
                assert float(loss[b, i, j]) == pytest.approx(want, rel=1e-6)
    one_hot = torch.tensor([1.0, 0.0, 0.0]).double().expand(2, 2, 2, 3)
    plain = nn.functional.cross_entropy(logits, which[..., 0], reduction="none")
    assert torch.allclose(generative.soft_cross_entropy(logits, which, one_hot), plain)
