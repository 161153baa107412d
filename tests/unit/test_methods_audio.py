"""Methods of sound: CPC against a triple loop, and what it may hear; AVID and CMA against loops over their banks;
BYOL-A: how sounds are mixed and cropped.
"""

import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nolabel import encoders
from nolabel.core import Clock, UserError
from nolabel.core.random import seed_all
from nolabel.encoders.files import load_encoder, save_encoder
from nolabel.encoders.wrapped import Recurrent
from nolabel.losses.contrastive import info_nce_places, info_nce_within, nce
from nolabel.networks import memory
from nolabel.networks.memory import agreeing_rows, partition
from nolabel.options import Options
from nolabel.resolve import resolve
from nolabel.views.audio import Wave, log_mix, resize_crop
from tests.support import Noise, build

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
    assert torch.autograd.gradcheck(
        lambda q, k: info_nce_within(q, k, place)[0], (query.requires_grad_(), key.requires_grad_())
    )


def test_places_that_a_query_must_not_meet():
    query, key, place = randn(4, 5), randn(7, 5, seed=1), torch.tensor([2, 0, 6, 3])
    skip = torch.tensor([[0, 2], [1, 5], [5, 4], [3, 3]])
    total = 0.0
    for m in range(4):
        met = [s for s in range(7) if s == place[m] or s not in skip[m].tolist()]
        total -= math.log(math.exp(dot(query[m], key[place[m]])) / sum(math.exp(dot(query[m], key[s])) for s in met))
    assert info_nce_places(query, key, place, skip)[0].item() == pytest.approx(total / 4, rel=1e-9)


# ---- recipes


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("cpc_speech", "toyworld", "toyworld:speech"),
        ("cpc_speech", "toyworld:easy", "toyworld:easy"),
        ("byol_a", "toyworld", "toyworld:speech"),
        ("avid", "toyworld", "toyworld:1500:textured"),
    ],
)
def test_toyworld_alone_is_the_one_that_suits(name, said, meant):
    made, data = resolve(name, Options(data=said, cache="never", device="cpu"), {}, lambda what, share: None)
    assert made.data == meant and made.fields["views"].get("sound", made.fields["views"])["rate"] == 8000
    assert len(data.splits["train"]) == (1500 if name == "avid" else 6000)


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
    with pytest.raises(UserError, match="of 3: raise"):
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
    assert net(x).shape == (2, 24) and net.dim == 24 and not torch.equal(*net(x))


# ---- avid


def unit(*shape, seed=0):
    return F.normalize(randn(*shape, seed=seed), dim=-1)


def test_nce_of_several_positives_and_rows_not_to_meet():
    query, positive, noise = unit(3, 5), unit(3, 2, 5, seed=1), unit(7, 5, seed=2)
    skip, tau, partition = torch.tensor([[0, 4], [-1, -1], [6, -1]]), 0.2, 1.3
    total = 0.0
    for i in range(3):

        def h(row, i=i):
            p = math.exp(dot(query[i], row) / tau) / partition
            return p / (p + 7)

        total -= sum(math.log(h(positive[i, p])) for p in range(2)) / 2
        total -= sum(math.log(1 - h(noise[k])) for k in range(7) if k not in skip[i].tolist())
    assert nce(query, positive, noise, tau, partition, skip)[0].item() == pytest.approx(total / 3, rel=1e-9)


def test_agreeing_rows_are_near_in_both_banks(monkeypatch):
    monkeypatch.setitem(memory.BLOCK, "cpu", 50)  # several blocks
    a, b = unit(20, 4), unit(20, 4, seed=1)
    found = agreeing_rows(a, b, 5)
    for i in range(20):
        agreement = {j: min(dot(a[i], a[j]), dot(b[i], b[j])) for j in range(20) if j != i}
        assert found[i].tolist() == sorted(agreement, key=lambda j: -agreement[j])[:5]
    assert torch.equal(agreeing_rows(a, b, 5, slice(7, 12)), found[7:12])
    assert agreeing_rows(a, b, 5, slice(20, 20)).shape == (0, 5)


def bank_term(method, constant, z, bank, positives, noise, hidden):
    """-mean over positives log h - sum over noise rows log(1 - h), by loops."""
    tau, m, total = method.temperature, len(noise), 0.0
    for i in range(len(z)):

        def h(row, i=i):
            p = math.exp(dot(z[i], row) / tau) / constant
            return p / (p + m)

        rows = [bank.rows[j].double() for j in positives[i]]
        total -= sum(math.log(h(row)) for row in rows) / len(rows)
        total -= sum(math.log(1 - h(bank.rows[j].double())) for j in noise if j not in hidden[i])
    return total / len(z)


@pytest.mark.parametrize("found", [0, 1])
def test_avid_and_cma_are_their_formulas(found):
    method = build("avid", negatives=0, within=0, agreeing=3)
    method.eval()
    noise = Noise.of(method, batch=4)
    views = method.views(noise.at(0, 0), torch.Generator().manual_seed(0))
    index = views["index"].tolist()
    method.friends.copy_(torch.stack([(torch.arange(64) + s) % 64 for s in (1, 5, 9)], 1))
    method.found.fill_(found)
    before = {k: bank.rows.clone() for k, bank in method.banks.items()}
    with torch.no_grad():
        z = {k: F.normalize(method.heads[k](method.encoders[k](views[k])).double()) for k in method.heads}
        loss, logs = method(views, T0)
    after = {k: bank.rows.clone() for k, bank in method.banks.items()}
    for k, bank in method.banks.items():
        want = F.normalize(0.5 * before[k][index].double() + 0.5 * z[k])
        torch.testing.assert_close(after[k][index].double(), want, atol=1e-5, rtol=0)
        rest = [j for j in range(64) if j not in index]
        assert torch.equal(after[k][rest], before[k][rest]), "only rows of the batch move"
        bank.rows.copy_(before[k])
    friends = [method.friends[i].tolist() for i in index]
    hidden = [[i, *f] for i, f in zip(index, friends)]
    every, constant = range(64), partition(32, 0.07)
    cross = sum(
        bank_term(method, constant, z[k], method.banks[o], [[i] for i in index], every, hidden) / 2
        for k, o in (("video", "audio"), ("audio", "video"))
    )
    within = sum(
        bank_term(method, constant, z[k], method.banks[k], friends, every, hidden) / 2 for k in ("video", "audio")
    )
    assert logs["across"].item() == pytest.approx(cross, rel=1e-4)
    assert logs["within"].item() == pytest.approx(within, rel=1e-4)
    assert loss.item() == pytest.approx((cross + within) / 2 if found else cross, rel=1e-4)


def test_agreement_begins_late_and_is_renewed():
    method = build("avid", agreeing=3, instance=0.5, refresh=2)
    own = torch.arange(64)[:, None]
    seen = []
    for epoch in range(8):
        method.begin_epoch(Clock(4 * epoch, 32, 4), None)
        assert bool((method.friends == own).all()) == (epoch < 4) and method.found == float(epoch >= 4)
        seen.append(method.friends.clone())
        for bank in method.banks.values():
            bank.update(torch.arange(64), randn(64, 32, seed=epoch).float())
    assert not (seen[7] == own).any(), "never itself"
    assert torch.equal(seen[4], seen[5]) and not torch.equal(seen[5], seen[6]) and torch.equal(seen[6], seen[7])
    want = agreeing_rows(method.banks["video"].rows, method.banks["audio"].rows, 3)
    method.begin_epoch(Clock(32, 40, 4), None)
    assert torch.equal(method.friends, want)
    alone = build("avid", instance=1.0)
    alone.begin_epoch(Clock(31, 32, 4), None)
    assert alone.found == 0


# ---- byol_a


def test_mixing_is_of_powers():
    x, other, share = randn(3, 1, 4, 5), randn(3, 1, 4, 5, seed=1), torch.tensor([0.0, 0.3, 1.0], dtype=torch.double)
    found = log_mix(x, other, share)
    for b in range(3):
        a = share[b].item()
        want = np.log((1 - a) * np.exp(x[b].numpy()) + a * np.exp(other[b].numpy()))
        np.testing.assert_allclose(found[b].numpy(), want, rtol=1e-9)
    assert torch.equal(found[0], x[0])


def test_boxes_of_the_canvas():
    x, canvas = randn(1, 1, 20, 32), (1.0, 1.5)
    whole = resize_crop(x, torch.tensor([[0.5, 0.5, 0.0, 0.5]]).double(), canvas, (0.5, 1.5))
    torch.testing.assert_close(whole, x, atol=1e-4, rtol=0)  # of the size of the picture, in the middle of the canvas
    padded = F.pad(x, (8, 8))
    for seed in range(20):
        u = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        h, w = min(20, int(20 * (0.6 + 0.9 * u[0, 0]))), min(48, int(32 * (0.6 + 0.9 * u[0, 1])))
        i, j = int(u[0, 2] * (20 - h + 1)), int(u[0, 3] * (48 - w + 1))
        box = padded[:, :, i : i + h, j : j + w]
        want = F.interpolate(box, (20, 32), mode="bicubic", align_corners=True)
        found = resize_crop(x, u, canvas, (0.6, 1.5))
        inside = (slice(None), slice(None), slice(3, -3), slice(4, -4))  # at its border a box sees what lies beyond
        torch.testing.assert_close(found[inside], want[inside], atol=1e-4, rtol=1e-4)


def test_sounds_are_mixed_with_those_of_earlier_batches(monkeypatch):
    method = build("byol_a", queue=6)
    noise = Noise.of(method, batch=4)
    met = []

    def remember(x, other, share):
        met.append((other.flatten(1), share))
        return log_mix(x, other, share)

    monkeypatch.setattr(inspect.getmodule(type(method)), "log_mix", remember)
    sounds = [method.views(noise.at(0, step), torch.Generator().manual_seed(step)) for step in range(3)]
    for views in sounds:
        method(views, T0)
    past = [views["x"].flatten(1) for views in sounds]
    assert all((share == 0).all() for _, share in met[:2]), "nothing was heard before"
    for step, known in ((1, past[0]), (2, torch.cat(past[:2])[-6:])):
        for other, share in met[2 * step : 2 * step + 2]:
            assert (torch.cdist(other, known).amin(1) < 1e-3).all() and (share > 0).all() and share.max() <= 0.4
    assert torch.equal(method.memory.ordered(), torch.cat(past)[-6:]), "first in, first out"
    assert not any(p.grad is not None for p in method.target.parameters())


def test_views_are_of_one_segment_and_of_unit_deviation(monkeypatch):
    method = build("byol_a")
    noise, seen = Noise.of(method, batch=4), []
    monkeypatch.setattr(method.target, "forward", lambda x: seen.append(x) or method.online(x).detach())
    loss, logs = method(method.views(noise.at(0, 0), torch.Generator().manual_seed(0)), T0)
    assert seen[0].mean().abs() < 1e-5 and seen[0].std() == pytest.approx(1, rel=1e-3)
    assert not torch.equal(*seen[0].chunk(2)) and 0 <= loss <= 8
    assert logs["cosine"].item() == pytest.approx(1 - loss.item() / 4)
