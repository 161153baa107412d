"""MAE on tubes and spectrograms is MAE: presets change defaults only, targets are those of the papers."""

import inspect
from pathlib import Path

import pytest
import torch

from nolabel import methods
from nolabel.core import UserError
from nolabel.methods.masked.mae import MAE
from nolabel.networks.decoder import Decoder
from nolabel.views.masks import random_mask
from tests.support import Noise, build


def test_presets_are_the_same_method_with_other_defaults():
    for name in ("videomae", "audio_mae"):
        kind = methods.load(name)
        assert kind.forward is MAE.forward and kind.build is MAE.build
        assert kind is methods.load(name) and methods.name_of(kind) == name
        assert "class " not in Path(inspect.getfile(kind)).read_text()
    assert methods.load("videomae")().mask == "tube" and MAE().mask == "random"
    assert methods.describe("videomae").modalities == ("video",)


def test_targets_by_channel():
    method = build("videomae")
    x_BMP = torch.randn(2, 5, method.encoder.patch_dim, generator=torch.Generator().manual_seed(0)).double()
    found, mean, deviation = method.target(x_BMP)
    values = method.encoder.patch_dim // 3
    for b in range(2):
        for m in range(5):
            for c in range(3):
                own = [float(x_BMP[b, m, v * 3 + c]) for v in range(values)]
                center = sum(own) / values
                spread = (sum((v - center) ** 2 for v in own) / (values - 1) + 1e-6) ** 0.5
                for v in range(values):
                    assert abs(float(found[b, m, v * 3 + c]) - (own[v] - center) / spread) < 1e-6
    torch.testing.assert_close(found * deviation + mean, x_BMP)


def test_what_is_seen_does_not_enter_the_loss():
    """The loss is the mean over hidden tubes, and nine tenths of the places are hidden at all times."""
    method = build("videomae", hide=0.9)
    noise = Noise.of(method)
    x = method.views(noise.at(0, 0), torch.Generator().manual_seed(0))["x"]
    torch.manual_seed(0)
    hide_BM = method.guess(x)[1]
    times, places = method.encoder.grid[0], method.encoder.length // method.encoder.grid[0]
    assert hide_BM.shape[1] == times * (places - round(places * 0.1))
    rows = method.show({"x": x}, None)
    assert rows["painted"].shape == (len(x) * x.shape[2], 3, 32, 32)


# ---- windows of the decoder


def attended_by_hand(block, x_HWC, window_of):
    """A block of windows as attention of all to all, with a mask: places attend to those of their own window."""
    rows, columns, width = x_HWC.shape
    places = [(r, c) for r in range(rows) for c in range(columns)]
    attn, side = block.attn, 4
    x_LC = x_HWC.reshape(-1, width)
    q, k, v = attn.qkv(block.norm1(x_LC)).chunk(3, 1)
    out = torch.zeros_like(x_LC)
    part = width // attn.num_heads
    for h in range(attn.num_heads):
        own = slice(h * part, (h + 1) * part)
        for i, (r, c) in enumerate(places):
            near = [j for j, other in enumerate(places) if window_of(*other) == window_of(r, c)]
            bias = [
                attn.relative_position_bias_table[(r - places[j][0] + side - 1) * 7 + c - places[j][1] + side - 1, h]
                for j in near
            ]
            weight = ((k[near, own] @ q[i, own]) / part**0.5 + torch.stack(bias)).softmax(0)
            out[i, own] = weight @ v[near, own]
    x_LC = x_LC + attn.proj(out)
    return (x_LC + block.mlp(block.norm2(x_LC))).view_as(x_HWC)


def test_the_decoder_attends_within_windows_that_shift_in_time():
    torch.manual_seed(0)
    decoder = Decoder(6, 8, 2, 2, (8, 12), 5, window=4).double()
    x = torch.randn(1, 8, 12, 8, dtype=torch.double)
    first, second, _ = decoder.transformer
    with torch.no_grad():
        for block in (first, second):
            block.attn.relative_position_bias_table.normal_()
        expected = attended_by_hand(first, x[0], lambda r, c: (r // 4, c // 4))
        assert torch.allclose(first(x)[0], expected)
        # windows that two of four columns are shifted by, without those that would reach around the end
        expected = attended_by_hand(second, x[0], lambda r, c: (r // 4, (c + 2) // 4))
        assert torch.allclose(second(x)[0], expected)


def test_the_decoder_with_windows_puts_tokens_at_their_places():
    torch.manual_seed(0)
    decoder = Decoder(6, 8, 2, 2, (8, 12), 5, window=4).double()
    keep, hide = random_mask(3, 96, 0.75)
    h = torch.randn(3, 1 + keep.shape[1], 6, dtype=torch.double)
    with torch.no_grad():
        found = decoder(h, keep, hide)
        for b in range(3):
            grid = (decoder.mask_token + decoder.positions).clone()
            for token, place in zip(h[b, 1:], keep[b]):
                grid[place] = decoder.into(token) + decoder.positions[place]
            out = decoder.out(decoder.transformer(grid.view(1, 8, 12, 8)).view(96, 8))
            assert torch.allclose(found[b], out[hide[b]])
        far = h.clone()
        far[:, 0] += 1  # the summary token, which has no place
        assert torch.equal(decoder(far, keep, hide), found)


def test_windows_need_a_grid_of_two_axes():
    with pytest.raises(UserError, match="--window 0"):
        Decoder(6, 8, 2, 2, (2, 4, 4), 5, window=2)
