"""Pairs of image and text: views, the sigmoid loss against a loop, the learned temperature, the towers."""

import math

import pytest
import torch

from nolabel import encoders
from nolabel.core import Clock
from nolabel.core.random import generator, seed_all
from nolabel.core.types import PAD
from nolabel.losses import siglip as module
from nolabel.losses.siglip import siglip
from nolabel.views.pairs import Captioned
from tests.support import Noise, build


def pair(n=7, d=5):
    a, b = torch.randn(2, n, d, generator=generator(n), dtype=torch.double)
    return a.requires_grad_(), b.requires_grad_()


def naive_siglip(a, b, scale, bias):
    x, y = ([[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in z.tolist()] for z in (a, b))
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            sign = 1 if i == j else -1
            score = sign * (scale * sum(u * v for u, v in zip(x[i], y[j])) + bias)
            total -= math.log(1 / (1 + math.exp(-score)))
    return total / len(x)


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.5), (30.0, -2.71)])
@pytest.mark.parametrize("n", [1, 7])
def test_siglip_is_the_loop(scale, bias, n):
    a, b = pair(n)
    assert siglip(a, b, scale, bias).item() == pytest.approx(naive_siglip(a, b, scale, bias), abs=1e-9)
    assert torch.allclose(siglip(a, b, scale, bias), siglip(b, a, scale, bias))


def test_siglip_in_tiles_has_the_same_gradient(monkeypatch):
    a, b = pair(9)
    scale, bias = (torch.tensor([v], dtype=torch.double, requires_grad=True) for v in (8.0, -3.0))
    whole = siglip(a, b, scale, bias)
    grads = torch.autograd.grad(whole, (a, b, scale, bias))
    monkeypatch.setitem(module.TILE, "cpu", 20)
    parts = siglip(a, b, scale, bias)
    assert torch.allclose(whole, parts, rtol=1e-12)
    for x, y in zip(grads, torch.autograd.grad(parts, (a, b, scale, bias))):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12)
    # d L / d bias = 1/B sum_ij sigmoid(score) - 1
    scores = scale * torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T + bias
    assert float(grads[3].detach()) == pytest.approx(float(scores.detach().sigmoid().sum() / 9 - 1), abs=1e-9)


def test_a_start_at_minus_ln_b_is_near_all_wrong():
    """With cosines near 0 each anchor costs softplus(ln B) for its own pair and (B - 1) ln(1 + 1/B) for the others."""
    n = 128
    a, b = torch.randn(2, n, 64, generator=generator(0))
    start = float(siglip(a, b, 1.0, -math.log(n)))
    assert start == pytest.approx(math.log(1 + n) + (n - 1) * math.log(1 + 1 / n), rel=0.02)


def test_captioned_gives_image_and_text():
    noise = Noise(reads=("image", "text"))
    views = Captioned(size=24, length=10)
    made, plain = views(noise.at(0, 0), generator(0)), views.plain(noise.at(0, 0))
    assert made["image"].shape == plain["image"].shape == (16, 3, 24, 24)
    assert torch.equal(made["text"], plain["text"]) and made["text"].shape == (16, 10)
    assert "x" not in made and "index" in made


def test_the_temperature_never_falls_below_its_limit():
    method = build("clip")
    t = Clock(0, 6, 4)
    with torch.no_grad():
        method.log_scale.fill_(6.0)
    method.after_step(t)
    assert method.log_scale.shape == (1,)
    assert float(method.log_scale) == pytest.approx(math.log(100), abs=1e-6)
    with torch.no_grad():
        method.log_scale.fill_(1.0)
    method.after_step(t)
    assert float(method.log_scale) == 1.0


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_both_towers_are_kept_in_one_space(name):
    method = build(name)
    noise = Noise.of(method)
    plain = method.views.plain(noise.at(0, 0))
    kept = method.kept().eval()
    shapes = {k: tuple(kept[k](plain[k]).shape) for k in kept}
    assert shapes == {"image": (16, method.out), "text": (16, method.out)}
    assert kept["image"].dim == kept["text"].dim == method.out


# ---- M3AE ------------------------------------------------------------------------------------------------------------
def test_invisible_tokens_change_nothing():
    torch.manual_seed(0)
    encoder = encoders.make("tiny_tokens", (3, 32, 32)).eval()
    tokens, visible = torch.randn(2, 10, 96, generator=generator(0)), torch.ones(2, 10, dtype=torch.bool)
    assert torch.allclose(encoder.encode(tokens), encoder.encode(tokens, visible), atol=1e-5)
    visible[:, 7:] = False
    other = tokens.clone()
    other[:, 7:] = 100.0
    a, b = encoder.encode(tokens, visible), encoder.encode(other, visible)
    assert torch.allclose(a[:, :8], b[:, :8], atol=1e-5)
    assert torch.allclose(a[:, :8], encoder.encode(tokens[:, :7]), atol=1e-5)


def padded(noise, real=9):
    batch = noise.at(0, 0)
    batch["text"][:, real:] = PAD
    return batch


def m3ae_loss(method, views, seed=5):
    seed_all(seed)
    loss, logs = method(views, Clock(0, 6, 4))
    return float(loss.detach()), {k: float(v) for k, v in logs.items()}


def test_pads_are_neither_seen_nor_predicted():
    method = build("m3ae").eval()
    views = method.views(padded(Noise.of(method)), generator(0))
    before = m3ae_loss(method, views)
    with torch.no_grad():
        method.words.weight[PAD] += 50.0
        method.to_word.bias[PAD] -= 50.0  # scored as a word that is never right, it changes only the normaliser
    after = m3ae_loss(method, views)
    assert after[1]["image_loss"] == pytest.approx(before[1]["image_loss"], rel=1e-5)
    assert after[1]["text_loss"] == pytest.approx(before[1]["text_loss"], abs=0.2)


def test_captions_count_alike_and_uniform_guesses_cost_the_log_of_the_vocabulary():
    method = build("m3ae").eval()
    views = method.views(padded(Noise.of(method)), generator(0))
    with torch.no_grad():
        method.to_word.weight.zero_()
        method.to_word.bias.zero_()
    assert m3ae_loss(method, views)[1]["text_loss"] == pytest.approx(math.log(60), rel=1e-5)


def test_words_reach_the_image_and_the_image_reaches_words():
    method = build("m3ae").eval()
    views = method.views(Noise.of(method).at(0, 0), generator(0))
    one = m3ae_loss(method, views)[1]
    text = m3ae_loss(method, {**views, "text": views["text"].flip(0)})[1]
    image = m3ae_loss(method, {**views, "image": views["image"] + 1.0})[1]
    assert text["image_loss"] != one["image_loss"] and image["text_loss"] != one["text_loss"]
