"""Methods of sound: CPC against a triple loop, and what it may hear."""

import math

import pytest
import torch
import torch.nn.functional as F

from nolabel import encoders
from nolabel.core import Clock, UserError
from nolabel.core.random import seed_all
from nolabel.encoders.files import load_encoder, save_encoder
from nolabel.encoders.wrapped import Recurrent
from nolabel.losses.contrastive import info_nce_places, info_nce_within
from nolabel.views.audio import Wave
from tests.support import build

T0 = Clock(0, 10, 5)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def dot(x, y):
    return sum(p * q for p, q in zip(x.tolist(), y.tolist()))


# ---- losses


def test_info_nce_within_is_the_formula():
    query, key, place = randn(3, 4, 5), randn(3, 6, 5, seed=1), torch.tensor([2, 3, 0, 5])
    total, right = 0.0, 0
    for b in range(3):
        for m in range(4):
            scores = [dot(query[b, m], key[b, s]) for s in range(6)]
            total -= math.log(math.exp(scores[place[m]]) / sum(map(math.exp, scores)))
            right += scores[place[m]] == max(scores)
    loss, accuracy = info_nce_within(query, key, place)
    assert loss.item() == pytest.approx(total / 12, rel=1e-9) and accuracy.item() == pytest.approx(right / 12)
    constant, none = info_nce_within(torch.ones_like(query), torch.ones_like(key), place)
    assert constant.item() == pytest.approx(math.log(6), rel=1e-9) and none == 0, "a collapsed encoder is never right"
    order = torch.tensor([1, 0, 2, 3, 5, 4])
    moved = info_nce_within(query, key[:, order], order.argsort()[place])[0]
    assert moved.item() == pytest.approx(loss.item(), rel=1e-12), "only the positive has a place"
    assert torch.autograd.gradcheck(lambda q, k: info_nce_within(q, k, place)[0], (query.requires_grad_(), key.requires_grad_()))


def test_places_that_a_query_must_not_meet():
    query, key, place = randn(4, 5), randn(7, 5, seed=1), torch.tensor([2, 0, 6, 3])
    skip = torch.tensor([[0, 2], [1, 5], [5, 4], [3, 3]])
    total = 0.0
    for m in range(4):
        met = [s for s in range(7) if s == place[m] or s not in skip[m].tolist()]
        total -= math.log(math.exp(dot(query[m], key[place[m]])) / sum(math.exp(dot(query[m], key[s])) for s in met))
    assert info_nce_places(query, key, place, skip)[0].item() == pytest.approx(total / 4, rel=1e-9)


# ---- cpc_speech


def speaking(**changes):
    method = build("cpc_speech", views=Wave(rate=8000, seconds=0.2), ahead=3, **changes).double()
    seed_all(3)
    return method, {"x": 0.2 * randn(3, 1, 1600, seed=2)}


@pytest.mark.parametrize("negatives", ["mixed", "other", "sequence"])
def test_cpc_is_a_loop_over_recordings_moments_and_distances(negatives):
    method, views = speaking(negatives=negatives)
    with torch.no_grad():
        loss, logs = method(views, T0)
        z, c = method.encoder.moments(views["x"])
        B, T = z.shape[:2]
        assert T == 10 and c.shape[:2] == (B, T)
        terms = []
        for k, guess in enumerate(method.guess, 1):
            total, right = 0.0, 0
            for b in range(B):
                for t in range(T - k):
                    q = guess.weight @ c[b, t]
                    wrong = {
                        "mixed": [(i, j) for i in range(B) for j in range(T)],
                        "other": [(i, j) for i in range(B) for j in range(T) if i != b],
                        "sequence": [(b, j) for j in range(T)],
                    }[negatives]
                    own = dot(q, z[b, t + k])
                    rest = [dot(q, z[i, j]) for i, j in wrong if (i, j) != (b, t + k)]
                    total -= math.log(math.exp(own) / (math.exp(own) + sum(map(math.exp, rest))))
                    right += own > max(rest)
            terms.append(total / B / (T - k))
            assert logs[f"accuracy_{k}"].item() == pytest.approx(right / B / (T - k))
    assert loss.item() == pytest.approx(sum(terms) / 3, rel=1e-9)


def test_what_is_heard_does_not_know_what_follows():
    method, views = speaking()
    x = views["x"].requires_grad_()
    for t in (0, 4, 8):
        (grad,) = torch.autograd.grad(method.encoder.frames(x)[:, t].square().sum(), x)
        last = int(grad.abs().amax((0, 1)).nonzero().max())
        assert 160 * t < last < 160 * t + 465, "the window of the encoder and nothing after it"
        assert grad[..., 0].abs().sum() > 0, "the context reaches back to the beginning"


def test_too_many_moments_ahead_are_told():
    method, views = speaking()
    with pytest.raises(UserError, match="raise views.seconds"):
        method({"x": views["x"][..., :480]}, T0)
    with pytest.raises(UserError, match="single moments"):
        Recurrent(encoders.make("tiny", (3, 32, 32)), 8)


def test_recurrent_encoder_comes_back_from_its_file(tmp_path):
    net = Recurrent(encoders.make("tiny_wave", (1, 1600)), 24).eval()
    save_encoder(net, tmp_path / "encoder.safetensors", {"name": "tiny_wave", "shape": [1, 1600], "modality": "audio"})
    x = randn(2, 1, 1600).float()
    again = load_encoder(tmp_path / "encoder.safetensors")
    torch.testing.assert_close(again(x), net(x))
    torch.testing.assert_close(net(x), net.frames(x).mean(1))
    assert net(x).shape == (2, 24) and net.dim == 24 and not F.cosine_similarity(*net(x), dim=0) == 1
