"""Corruptions, holes, tiles, permutations, colours: what methods hide from themselves."""

import pytest
import torch

from nolabel.core import UserError
from nolabel.core.random import generator, seed_all
from nolabel.views.color import rgb_to_lab
from nolabel.views.corrupt import corrupt
from nolabel.views.holes import band, holes
from nolabel.views.lab import LightAndColor
from nolabel.views.palette import Palette
from nolabel.views.tiles import Copies, Tiles, permutations


def images(count=5, side=32):
    return torch.randint(0, 256, (count, side, side, 3), generator=generator(0), dtype=torch.uint8)


# ---- corruption


@pytest.mark.parametrize("kind", ["mask", "salt"])
def test_exactly_as_many_values_are_hit(kind):
    seed_all(0)
    x = torch.rand(40, 3, 8, 8) * 0.8 + 0.1
    noisy, hit = corrupt(x, kind, 0.25)
    assert torch.equal(hit.flatten(1).sum(1), torch.full((40,), 48)) and torch.equal(noisy[~hit], x[~hit])
    assert not torch.equal(hit[0], hit[1]), "each sample has its own"
    if kind == "mask":
        assert (noisy[hit] == 0).all()
    else:
        assert set(noisy[hit].unique().tolist()) == {0.0, 1.0}
        assert 0.42 < float(noisy[hit].mean()) < 0.58  # a fair coin, 1920 throws


def test_gauss_and_no_noise():
    seed_all(0)
    x = torch.rand(50, 100)
    noisy, hit = corrupt(x, "gauss", 0.3)
    assert hit.all() and abs(float((noisy - x).std()) - 0.3) < 0.01
    for kind in ("gauss", "mask", "salt"):
        assert torch.equal(corrupt(x, kind, 0.0)[0], x)
    assert not torch.equal(corrupt(x, "mask", 0.5)[1], corrupt(x, "mask", 0.5)[1]), "drawn anew each time"


# ---- holes


@pytest.mark.parametrize("side", [32, 64, 128])
def test_holes_hide_about_a_quarter(side):
    seed_all(1)
    for kind, low, high in (("center", 0.25, 0.25), ("blocks", 0.2, 0.3), ("shapes", 0.25, 0.25)):
        hole = holes(kind, 30, side, torch.device("cpu"))
        share = hole.float().mean((1, 2, 3))
        assert hole.shape == (30, 1, side, side) and low <= float(share.min()) and float(share.max()) <= high
        assert (kind == "center") == torch.equal(hole[0], hole[1])
    middle = holes("center", 1, side, torch.device("cpu"))[0, 0]
    assert middle[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4].all() and not middle[: side // 4].any()


def test_band_is_around_the_hole():
    hole = holes("center", 1, 32, torch.device("cpu"))
    around = band(hole, 2)
    assert around.sum() == 20**2 - 16**2 and not (around & hole).any()
    assert not band(hole, 0).any()


# ---- tiles


def test_tiles_come_from_their_cells():
    view = Tiles(size=48, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, gray=0.0, tile=12, standardise=False,
                 mean=(0.0,) * 3, std=(1.0,) * 3)  # fmt: skip
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    place = torch.stack((y, x, 0 * x), -1).to(torch.uint8)[None].expand(20, -1, -1, -1).contiguous()
    tiles = (view({"image": place}, generator(0))["tiles"] * 255).round()
    assert tiles.shape == (20, 9, 3, 12, 12)
    corner = tiles[:, :, :2, 0, 0]
    step = torch.arange(12.0)
    assert torch.equal(tiles[:, :, 0], (corner[:, :, 0, None, None] + step[:, None]).expand(-1, -1, 12, 12))
    assert torch.equal(tiles[:, :, 1], (corner[:, :, 1, None, None] + step).expand(-1, -1, 12, 12))
    for k in range(9):
        inside = corner[:, k] - 16 * torch.tensor([k // 3, k % 3])
        assert inside.min() >= 0 and inside.max() <= 4 and len(inside.unique()) == 5


def test_tiles_are_standardised_each():
    tiles = Tiles(size=48, tile=12)({"image": images()}, generator(0))["tiles"]
    assert tiles.mean((2, 3, 4)).abs().max() < 1e-4
    assert (tiles.var((2, 3, 4), correction=0) - 1).abs().max() < 1e-2
    assert Tiles(size=48, tile=12).plain({"image": images()})["image"].shape == (5, 3, 48, 48)


@pytest.mark.parametrize(("count", "least"), [(9, 9), (64, 7), (100, 6)])
def test_permutations_are_far_apart(count, least):
    table = torch.from_numpy(permutations(9, count))
    assert torch.equal(table.sort(1).values, torch.arange(9).expand(count, -1))
    distance = (table[:, None] != table).sum(-1) + 9 * torch.eye(count).long()
    assert distance.min() == least
    assert (permutations(9, count) == table.numpy()).all(), "a function of its arguments"


def test_permutations_by_mean_are_no_better_than_chance():
    table = torch.from_numpy(permutations(9, 100, "max_mean"))
    distance = (table[:, None] != table).sum(-1)
    assert distance.sum() / (100 * 99) > 8.0 and (distance + 9 * torch.eye(100)).min() <= 3
    assert len(permutations(4, 24)) == 24 and len(permutations(16, 10)[0]) == 16
    with pytest.raises(ValueError, match="only 24"):
        permutations(4, 25)


def test_copies_are_drawn_apart():
    copies = Copies(size=24, count=3)({"image": images(), "index": torch.arange(5)}, generator(0))
    assert copies["copies"].shape == (3, 5, 3, 24, 24) and set(copies) == {"copies", "index"}
    assert not torch.equal(copies["copies"][0], copies["copies"][1])


# ---- colours


def test_light_and_color_of_a_view():
    view = LightAndColor(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    batch = {"image": images()}
    made = view(batch, generator(0))
    want = rgb_to_lab(batch["image"].permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(made["light"] * 50 + 50, want[:, :1], atol=1e-2, rtol=0)
    torch.testing.assert_close(made["ab"], want[:, 1:], atol=1e-2, rtol=0)
    assert view.plain(batch)["image"].shape == (5, 1, 32, 32)
    with pytest.raises(UserError, match="3 channels"):
        view({"image": batch["image"][..., :1].contiguous()}, generator(0))


def test_palette_encodes_and_decodes():
    palette = Palette()
    assert len(palette) == 261
    ab = palette.centers.T.view(1, 2, -1, 1)
    which, weight = palette.encode(ab)
    assert torch.equal(which[0, :, 0, 0], torch.arange(261)) and torch.allclose(weight.sum(-1), torch.ones(1))
    assert (weight[..., 0] >= weight.amax(-1)).all() and torch.allclose(
        weight[0, 130, 0, :2].log().diff(), torch.tensor(-2.0)
    )
    logits = torch.full((1, 261, 261, 1), -1e4)
    logits[0, torch.arange(261), torch.arange(261), 0] = 0
    torch.testing.assert_close(palette.decode(logits), ab, atol=1e-4, rtol=0)
    random = torch.randn(1, 261, 2, 2)
    mode = palette.centers[random.argmax(1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(palette.decode(random, 1e-4), mode, atol=1e-3, rtol=0)
    mean = torch.einsum("bqhw,qc->bchw", random.softmax(1), palette.centers)
    torch.testing.assert_close(palette.decode(random, 1.0), mean, atol=1e-3, rtol=1e-4)


def test_rare_colours_weigh_more():
    palette, flat = Palette(), Palette(uniform=1.0)
    ab = torch.zeros(4, 2, 8, 8)
    ab[0, :, :2] = torch.tensor([40.0, 30.0])[:, None, None]
    for p in (palette, flat):
        p.watch(*p.encode(ab))
    assert float(palette.seen.sum()) == pytest.approx(256)
    prior = (palette.seen / palette.seen.sum()) @ palette.smooth
    assert float(prior.sum()) == pytest.approx(1) and float((prior * palette.weights()).sum()) == pytest.approx(1)
    grey, rare = (int((palette.centers - torch.tensor(c)).norm(dim=1).argmin()) for c in ([0.0, 0.0], [40.0, 30.0]))
    assert palette.weights()[rare] > 1.2 * palette.weights()[grey] > 0
    assert torch.allclose(flat.weights(), torch.ones(261))
