"""The pyramid of tokens: what is dropped does not reach it, and a map of a quarter of the units is a map like any other."""

import pytest
import torch

from nolabel.core import UserError
from nolabel.encoders.pyramid import PyramidBlock, TinyPyramid, _join, _part
from nolabel.views.masks import take, uniform_mask
from tests.support import build


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TinyPyramid(32).eval()


def test_patches_there_and_back(net):
    x = torch.randn(2, 3, 32, 32)
    patches = net.patchify(x)
    assert patches.shape == (2, 64, 48)
    torch.testing.assert_close(net.unpatchify(patches), x)
    torch.testing.assert_close(patches[0, 8 + 2].view(4, 4, 3), x[0, :, 4:8, 8:12].permute(1, 2, 0))
    cells = torch.arange(16.0).view(1, 4, 4, 1)
    assert _join(cells, 2)[0, 0, 1].tolist() == [2, 3, 6, 7]
    torch.testing.assert_close(_part(_join(cells, 2), 2), cells)


def test_shapes_at_full_and_quarter_size_and_other_sizes(net):
    x = torch.randn(2, 3, 32, 32)
    tokens = net.embed(x)
    assert tokens.shape == (2, 64, net.token_dim)
    assert net.merged(tokens).shape == (2, 16, 128)
    assert net.merged(tokens[:, :16]).shape == (2, 4, 128)
    assert net(x).shape == (2, 128)
    full = net.encode(tokens)
    torch.testing.assert_close(net(x), full[:, 0])
    torch.testing.assert_close(net(x), full[:, 1:].mean(1))
    for place in range(64):
        above = place // 8 // 2 * 4 + place % 8 // 2
        assert torch.equal(full[:, 1 + place], net.merged(tokens)[:, above])
    with pytest.raises(UserError, match="square map"):
        net.encode(tokens[:, :18])
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 128)
    with pytest.raises(UserError, match="multiple of 16"):
        TinyPyramid(40)


def test_dropped_units_do_not_reach_the_encoder(net):
    x, other = torch.randn(2, 2, 3, 32, 32)
    keep, hide = uniform_mask(2, (8, 8), rng=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 64, 48).scatter(1, hide[..., None].expand(-1, -1, 48), 1.0)
    mixed = torch.where(net.unpatchify(hidden).bool(), other, x)
    a, b = (net.merged(take(net.embed(y), keep)) for y in (x, mixed))
    assert torch.equal(a, b)


def test_positions_are_those_of_the_whole_map(net):
    """Gathering units is what the paper's sum over each group of four does, since three of them are zero."""
    x = torch.randn(2, 3, 32, 32)
    keep, hide = uniform_mask(2, (8, 8), rng=torch.Generator().manual_seed(0))
    tokens = net.embed(x)
    zeroed = tokens.scatter(1, hide[..., None].expand_as(tokens[:, : hide.shape[1]]), 0.0)
    summed = zeroed.view(2, 4, 2, 4, 2, -1).sum((2, 4)).flatten(1, 2)
    torch.testing.assert_close(take(tokens, keep), summed)


def test_a_block_is_attention_to_the_pooled_map():
    torch.manual_seed(0)
    block = PyramidBlock(8, 1).eval()
    x = torch.randn(1, 8, 8, 8)
    h = block.norm1(x)
    pooled = h.view(1, 4, 2, 4, 2, 8).mean((2, 4)).flatten(1, 2)
    key, value = block.key_value(block.norm_pooled(pooled)).chunk(2, -1)
    weights = (block.query(h).flatten(1, 2) @ key.mT / 8**0.5).softmax(-1)
    expected = x + block.out(weights @ value).view_as(x)
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_um_mae_parts_the_merged_map_in_place():
    method = build("um_mae")
    assert method.merge == 4 and isinstance(method.encoder, TinyPyramid)
    h = torch.randn(2, 4, 128)
    parted = method.parted(h)
    cells = method.part(h).view(2, 4, 4, 128)
    assert parted.shape == (2, 16, 128)
    for parent in range(4):
        for child in range(4):
            y, x = 2 * (parent // 2) + child // 2, 2 * (parent % 2) + child % 2
            torch.testing.assert_close(parted[:, 4 * y + x], cells[:, parent, child])
