"""Colour, depth and class maps: one crop for all, shares of visible tokens, the losses of MultiMAE against loops."""

import math

import pytest
import torch

from nolabel.core import Clock
from nolabel.core.random import generator
from nolabel.data import open_data
from nolabel.networks.cross import CrossAttention
from nolabel.views.layers import Layers, squares, standardised
from nolabel.views.masks import dirichlet_mask
from tests.support import Noise, build

T = Clock(0, 6, 4)


def test_all_layers_have_the_same_crop_and_flip():
    """Of a picture whose colour, depth and class are the same ramp the views agree."""
    ramp = torch.arange(64).float()[None, :, None] * 0.5 + torch.arange(64).float() * 3
    stored = {
        "image": ramp.to(torch.uint8)[..., None].expand(-1, -1, -1, 3).repeat(40, 1, 1, 1),
        "depth": ramp.repeat(40, 1, 1),
        "segmentation": ramp.long().repeat(40, 1, 1),
        "index": torch.arange(40),
    }
    views = Layers(size=32, cell=4, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    made = views(stored, generator(0))
    assert made["image"].shape == (40, 3, 32, 32) and made["depth"].shape == (40, 1, 32, 32)
    assert made["segmentation"].shape == (40, 8, 8) and "index" in made
    for image, depth, kind in zip(made["image"][:, 0], made["depth"][:, 0], made["segmentation"]):
        inner = (slice(2, -2), slice(2, -2))
        assert torch.corrcoef(torch.stack((image[inner].flatten(), depth[inner].flatten())))[0, 1] > 0.995
        coarse = image.unfold(0, 4, 4).unfold(1, 4, 4).mean((2, 3))
        assert (coarse - kind).abs().max() < 8
    rising = made["image"][:, 0, 16, -1] > made["image"][:, 0, 16, 0]
    assert 10 < int(rising.sum()) < 30


def test_depth_is_standardised_without_its_extremes():
    depth = torch.randn(3, 20, 20, generator=generator(0)) * 7 + 3
    wild = depth.clone()
    wild[:, 0, :5] = 1e6
    for row in (depth, wild):
        out = standardised(row)
        middle = row.flatten(1).sort(1).values[:, 40:360]
        assert torch.allclose(out, (row - middle.mean(1)[:, None, None]) / middle.std(1)[:, None, None], rtol=1e-4)


def test_squares_go_row_by_row():
    x = torch.arange(16).view(1, 4, 4)
    assert squares(x, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_visible_tokens_are_shared_by_dirichlet_shares():
    keep, hide = dirichlet_mask(6000, (64, 64, 64), 32, generator(0))
    assert keep.shape == (6000, 32) and hide.shape == (6000, 160)
    assert torch.equal(torch.cat((keep, hide), 1).sort(1).values, torch.arange(192).expand(6000, 192))
    share = torch.stack([((keep // 64) == k).float().mean(1) for k in range(3)], 1).double()
    assert (share.mean(0) - 1 / 3).abs().max() < 4 * math.sqrt(1 / 18 / 6000)
    assert (share.var(0) - 1 / 18).abs().max() < 0.004  # of a Dirichlet with alpha 1
    inside = torch.bincount((keep[keep < 64]), minlength=64) / 6000
    assert (inside - inside.mean()).abs().max() < 0.03  # no place is preferred


def test_counts_are_websters():
    """Places go one by one to the layer with the largest share / (2 places + 1), as long as it has tokens."""
    keep, _ = dirichlet_mask(200, (50, 50, 20), 60, generator(0))
    shares = (-torch.rand(200, 3, generator=generator(0)).log()).tolist()  # the first draw of the function
    for row, share in zip(keep.tolist(), shares):
        count = [0, 0, 0]
        for _ in range(60):
            free = [k for k in range(3) if count[k] < (50, 50, 20)[k]]
            count[max(free, key=lambda k: share[k] / (2 * count[k] + 1))] += 1
        assert [sum(a <= i < b for i in row) for a, b in ((0, 50), (50, 100), (100, 120))] == count


def test_cross_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key_value.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.query.bias, ours.key_value.bias)))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    q, k = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    assert torch.allclose(ours(q, k), theirs(q, k, k)[0], atol=1e-5)


# ---- MultiMAE --------------------------------------------------------------------------------------------------------
def setting(monkeypatch, kept):
    """The small method in float64, its views, with the given tokens of 192 visible in every sample."""
    from nolabel.methods.multimodal import multimae as module

    method = build("multimae").double().eval()
    views = {k: v.double() if v.is_floating_point() else v for k, v in views_of(method).items()}
    keep = torch.tensor(kept)
    hide = torch.tensor([i for i in range(192) if i not in kept])
    monkeypatch.setattr(module, "dirichlet_mask", lambda b, *a, **k: (keep.expand(b, -1), hide.expand(b, -1)))
    return method, views


def views_of(method):
    return method.views(Noise.of(method).at(0, 0), generator(0))


def test_hidden_tokens_never_reach_the_encoder(monkeypatch):
    method, views = setting(monkeypatch, [*range(10), *range(70, 80), *range(140, 152)])
    seen = []
    encode = method.encoder.encode
    method.encoder.encode = lambda tokens: seen.append(tokens) or encode(tokens)
    method(views, T)
    other = {**views, "depth": views["depth"].clone(), "segmentation": views["segmentation"].clone()}
    other["depth"][:, :, 12:] += 5.0  # rows of tokens from 24 on: hidden
    other["segmentation"][:, 4:] = 3  # from 32 on: hidden
    method(other, T)
    assert torch.equal(seen[0], seen[1])


def test_the_feature_that_is_kept_gets_gradient():
    """It is the mean over patches; the summary token, which decoders read as well, gets some too."""
    method = build("multimae")
    seen = {}
    encode = method.encoder.encode

    def watched(tokens):
        seen["h"] = encode(tokens)
        seen["h"].retain_grad()
        return seen["h"]

    method.encoder.encode = watched
    method(views_of(method), T)[0].backward()
    assert method.encoder.pool == "mean"
    assert seen["h"].grad[:, 0].abs().sum() > 0 and (seen["h"].grad[:, 1:].abs().sum((0, 2)) > 0).all()


def test_class_maps_of_the_toy_world_do_not_tell_the_label():
    """They are of materials: a method that paints them is judged by shapes."""
    data = open_data("toyworld:material:64", ("image", "segmentation", "label"), cache="never")
    batch = data.splits["train"].take(torch.arange(64), ("segmentation", "label"))
    kinds = torch.stack([row[row > 0].mode().values for row in batch["segmentation"].flatten(1)])
    assert torch.equal(kinds.long(), batch["label"].long() + 1)


def test_losses_are_loops_over_what_is_hidden(monkeypatch):
    method, views = setting(monkeypatch, [*range(40), *range(64, 74), 128, 129])
    given = {}
    for name, decoder in method.decoders.items():
        decoder.register_forward_hook(lambda m, i, out, name=name: given.update({name: out.detach().float()}))
    _, logs = method(views, T)
    patches = method.encoder.patchify(views["image"]).float()
    depth = method.encoder.patchify(views["depth"]).float()
    total = dict.fromkeys(("colour", "standard", "depth", "class"), 0.0)
    for b in range(16):
        for n in range(40, 64):
            p, size = patches[b, n], patches.shape[-1]
            target = (p - p.mean()) / (p.var() + 1e-6).sqrt()
            total["colour"] += float((given["colour"][b, n] - p).square().sum()) / size / 24
            total["standard"] += float((given["standard"][b, n] - target).square().sum()) / size / 24
        for n in [*range(10, 64)]:
            total["depth"] += float((given["depth"][b, n] - depth[b, n]).abs().mean()) / 54
        known = [n for n in range(2, 64) if views["segmentation"][b].flatten()[n] >= 0]
        for n in known:
            scores = given["class"][b, n].log_softmax(0)
            total["class"] -= float(scores[views["segmentation"][b].flatten()[n]]) / len(known)
    for name, value in total.items():
        assert float(logs[f"{name}_loss"]) == pytest.approx(value / 16, rel=1e-4), name
