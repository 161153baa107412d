"""What makes each pretext method that method: what the kept net sees, and that nothing gives the answer away."""

import pytest
import torch

from nolabel.core.random import generator
from tests.support import Noise, build

TILED = ("relative_position", "jigsaw")


@pytest.mark.parametrize("name", TILED)
def test_an_image_is_looked_at_as_in_training(name):
    """Nine squares, each from the middle of its cell, each to mean 0 and deviation 1: the mean of their features."""
    method = build(name).eval()
    kept, views = method.kept(), method.views
    x = views.plain(Noise.of(method).at(0, 0))["image"]
    cell, seen = views.size // 3, []
    for k in range(9):
        top, left = ((cell - views.tile) // 2 + cell * place for place in divmod(k, 3))
        tile = x[:, :, top : top + views.tile, left : left + views.tile]
        tile = (tile - tile.mean((1, 2, 3), keepdim=True)) / tile.std((1, 2, 3), correction=0, keepdim=True)
        seen.append(kept.encoder(tile))
    torch.testing.assert_close(kept(x), torch.stack(seen).mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(kept(3 * x + 1), kept(x), atol=1e-3, rtol=1e-3)
    assert kept.dim == kept.encoder.dim and kept.size == views.size == 48


@pytest.mark.parametrize("name", TILED)
def test_training_and_use_see_tiles_of_one_size_by_one_net(name):
    method = build(name).eval()
    sides = []
    method.kept().encoder.register_forward_pre_hook(lambda _, inputs: sides.append(tuple(inputs[0].shape)))
    batch = Noise.of(method).at(0, 0)
    with torch.no_grad():
        tiles = method.views(batch, generator(0))["tiles"]
        method.kept().each(tiles)
        method.kept()(method.views.plain(batch)["image"])
    assert sides == [(16 * 9, 3, 12, 12)] * 2
