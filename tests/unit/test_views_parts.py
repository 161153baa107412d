"""Tiles, patches and colour spaces against what can be read off: coordinates as pixels, known colours, inverses."""

from dataclasses import fields, replace

import pytest
import torch

from nolabel.core.random import generator
from nolabel.views.color import lab_to_rgb, rgb_to_lab, rgb_to_ydbdr, ydbdr_to_rgb
from nolabel.views.image import IMAGENET_MEAN, IMAGENET_STD, OneView, TwoViews, plain
from nolabel.views.parts import (
    ImageAndParts,
    Patches,
    TwoViewsAndParts,
    middle_tiles,
    overlapping,
    shuffle,
    standardised,
    tiles,
    turn,
)
from nolabel.views.tiles import AnyFilter, Tiles
from nolabel.views.weak import rand_augment_round

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def coordinates(b: int, side: int) -> torch.Tensor:
    """Images whose pixels say (image, row, column)."""
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in (b, side, side)), indexing="ij")
    return torch.stack(axes, 1)


def images(b: int = 4, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (b, side, side, 3), generator=generator(3), dtype=torch.uint8)


def test_tiles_are_squares_of_their_cells() -> None:
    seen = set()
    for seed in range(30):
        x_BKCss = tiles(coordinates(2, 16), 3, 3, generator(seed))
        assert x_BKCss.shape == (2, 9, 3, 3, 3)
        for b in range(2):
            for k in range(9):
                image, row, column = x_BKCss[b, k]
                assert (image == b).all()
                assert (row == row[:, :1]).all() and (row[:, 0].diff() == 1).all()
                assert (column == column[:1]).all() and (column[0].diff() == 1).all()
                down, right = int(row[0, 0]) - k // 3 * 5, int(column[0, 0]) - k % 3 * 5
                seen.add((down, right))
    assert seen == {(i, j) for i in range(3) for j in range(3)}
    with pytest.raises(ValueError, match="do not fit"):
        tiles(coordinates(1, 16), 3, 6, generator(0))


def test_shuffle_keeps_the_parts_and_each_image_has_its_order() -> None:
    parts = torch.arange(9.0).expand(500, 9)[..., None] + 10 * torch.arange(500.0)[:, None, None]
    mixed = shuffle(parts, generator(0))
    assert torch.equal(mixed.sort(1).values, parts)
    first = mixed[:, 0, 0] - 10 * torch.arange(500.0)
    assert (first.long().bincount(minlength=9) > 25).all()  # about 56 of 500 each


def test_turn_is_a_multiple_of_90_degrees() -> None:
    x = coordinates(200, 4)
    turned = turn(x, generator(0))
    counts = [0] * 4
    for before, after in zip(x, turned):
        (k,) = [k for k in range(4) if torch.equal(torch.rot90(before, k, (1, 2)), after)]
        counts[k] += 1
    assert min(counts) > 30


def test_overlapping_patches_are_where_they_should_be() -> None:
    x = coordinates(2, 32)
    patches = overlapping(x, 10, 5)
    assert patches.shape == (2, 5, 5, 3, 10, 10)
    for i in range(5):
        for j in range(5):
            assert torch.equal(patches[:, i, j], x[:, :, 5 * i : 5 * i + 10, 5 * j : 5 * j + 10])


def test_views_with_parts() -> None:
    batch = {"image": images(), "index": torch.arange(4)}
    made = ImageAndParts(size=56)(batch, generator(0))
    assert made["x"].shape == (4, 3, 56, 56) and made["parts"].shape == (4, 9, 3, 16, 16) and "index" in made
    turned = ImageAndParts(size=32, transform="rotation")(batch, generator(0))
    assert turned["parts"].shape == (4, 1, 3, 32, 32)
    two = TwoViewsAndParts(
        size=32, transform="rotation", flip=0.0, strength=0.0, gray=0.0, blur=(0.0, 0.0), operations=0
    )
    made = two(batch, generator(0))
    assert set(made) == {"a", "b", "parts", "index"}
    plain = TwoViews(size=32, scale=two.scale, flip=0.0, strength=0.0, gray=0.0, blur=(0.0, 0.0))(batch, generator(0))
    assert torch.equal(made["a"], plain["a"])


def test_the_paper_cuts_255_pixels_into_cells_of_85_and_tiles_of_64() -> None:
    made = ImageAndParts()({"image": images(1, 64)}, generator(0))
    assert made["parts"].shape == (1, 9, 3, 64, 64)


def test_patches_lose_two_colours_or_none() -> None:
    views = Patches(
        size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, patch=10, stride=5, drop_color=0.5, patch_flip=0.0,
        patch_scale=(1.0, 1.0), patch_jitter=(0.0,) * 4, patch_gray=0.0, **PLAIN,
    )  # fmt: skip
    image = images(20).clamp(min=1)
    made = views({"image": image}, generator(0))["patches"]
    assert made.shape == (20, 5, 5, 3, 10, 10)
    whole = overlapping(image.permute(0, 3, 1, 2).float() / 255, 10, 5)
    alive = (made.abs().amax((4, 5)) > 0).flatten(0, 2)
    assert set(alive.sum(1).tolist()) == {1, 3}
    assert 0.4 < (alive.sum(1) == 1).float().mean() < 0.6
    kept = alive.view(20, 5, 5, 3, 1, 1)
    torch.testing.assert_close(made, whole * kept, atol=1e-6, rtol=0)
    assert Patches().grid == 6


def test_crops_of_patches_keep_their_shape_where_asked() -> None:
    """CPC v1 sees 60 of 64 pixels of a patch: at ratio 1 a square of them, so a slope is enlarged alike in both directions."""
    side = torch.arange(64, dtype=torch.uint8)
    slope = (side[:, None] + side)[None, ..., None].expand(1, 64, 64, 3).contiguous()
    views = Patches(
        size=64, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, patch=64, stride=64, drop_color=0.0, patch_flip=0.0,
        patch_scale=(0.88, 0.88), patch_ratio=(1.0, 1.0), patch_jitter=(0.0,) * 4, patch_gray=0.0, **PLAIN,
    )  # fmt: skip
    for ratio, alike in (((1.0, 1.0), True), ((0.8, 0.8), False)):
        x = replace(views, patch_ratio=ratio)({"image": slope}, generator(0))["patches"][0, 0, 0, 0] * 255
        down, right = (x[8:-8, 8:-8].diff(dim=d).mean().item() for d in (0, 1))
        assert (abs(down - right) < 0.01) == alike
        assert not alike or right == pytest.approx(60 / 64, abs=0.01)


def test_patches_of_grey_views_are_used_in_grey() -> None:
    batch = {"image": images(2)}
    colour, grey = Patches(size=32, gray=0.25).plain(batch)["image"], Patches(size=32, gray=1.0).plain(batch)["image"]
    assert torch.equal(colour, plain(batch["image"], 32))
    level = (batch["image"].float() / 255) @ torch.tensor([0.2989, 0.587, 0.114])
    for c in range(3):
        torch.testing.assert_close(grey[:, c], (level - IMAGENET_MEAN[c]) / IMAGENET_STD[c])
    one = {"image": batch["image"][..., :1]}
    assert torch.equal(Patches(size=32, gray=1.0).plain(one)["image"], Patches(size=32).plain(one)["image"])


def test_middle_tiles_are_the_middle_of_their_cells() -> None:
    tiles_BKCss = middle_tiles(coordinates(2, 17), 3, 3)
    assert tiles_BKCss.shape == (2, 9, 3, 3, 3)
    for b in range(2):
        for k in range(9):
            top, left = 1 + k // 3 * 5, 1 + k % 3 * 5
            assert torch.equal(tiles_BKCss[b, k], coordinates(2, 17)[b, :, top : top + 3, left : left + 3])
    with pytest.raises(ValueError, match="do not fit"):
        middle_tiles(coordinates(1, 16), 3, 6)


def test_standardised_tiles_tell_nothing_of_light_and_contrast() -> None:
    x = torch.rand(2, 9, 3, 8, 8, generator=generator(0))
    change = torch.rand(2, 9, 1, 1, 1, generator=generator(1))
    torch.testing.assert_close(standardised((0.5 + change) * x + change), standardised(x), atol=1e-3, rtol=0)
    made = Tiles(size=48, tile=12)({"image": images()}, generator(0))["tiles"]
    torch.testing.assert_close(made.mean((2, 3, 4)), torch.zeros(4, 9), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.std((2, 3, 4), correction=0), torch.ones(4, 9), atol=1e-3, rtol=0)


def test_any_filter_draws_one_of_two_for_each_image() -> None:
    batch = {"image": images(40), "index": torch.arange(40)}
    same = {"size": 20, "scale": (0.5, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1)}
    x = AnyFilter(**same)(batch, generator(0))["x"]
    ways = [OneView(**same, interpolation=w)(batch, generator(0))["x"] for w in ("bilinear", "bicubic")]
    which = torch.stack([(x == way).flatten(1).all(1) for way in ways])
    assert (which.sum(0) == 1).all() and 10 < which[0].sum() < 30


def test_rand_augment_comes_on_top_of_both_views_and_of_no_tile() -> None:
    batch = {"image": images(28)}
    off = TwoViewsAndParts(size=32, operations=0)(batch, generator(0))
    views = TwoViewsAndParts(size=32, jitter=(0.0,) * 4, gray=0.0, blur=(0.0, 0.0), part_scale=(0.9, 1.0))
    assert views.operations == 2 and not torch.equal(views(batch, generator(0))["a"], off["a"])
    rng = generator(0)
    base = replace(views, operations=0, **PLAIN)
    two = TwoViews(**{f.name: getattr(base, f.name) for f in fields(TwoViews)})(batch, rng)
    both = torch.cat((two["a"], two["b"]))
    for _ in range(2):
        both = rand_augment_round(both, rng)
    expected = (both - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    made = views(batch, generator(0))
    torch.testing.assert_close(torch.cat((made["a"], made["b"])), expected, atol=1e-5, rtol=0)
    strong = replace(views, jitter=(0.8, 0.8, 0.8, 0.2), gray=1.0, blur=(1.0, 1.0), solarize=(1.0, 1.0))
    assert torch.equal(strong(batch, generator(0))["parts"], made["parts"]), "crop and flip only"


def test_lab_of_known_colours() -> None:
    corners = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]).T.reshape(3, 5, 1)
    expected = [  # Lindbloom's calculator, sRGB under D65
        [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    torch.testing.assert_close(rgb_to_lab(corners)[..., 0].T, torch.tensor(expected), atol=0.02, rtol=0)


def test_colour_spaces_come_back() -> None:
    x = torch.rand(2, 3, 7, 5, generator=generator(0), dtype=torch.double)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(ydbdr_to_rgb(rgb_to_ydbdr(x)), x, atol=1e-12, rtol=0)
    gray = x[:, :1].expand(-1, 3, -1, -1)
    assert rgb_to_lab(gray)[:, 1:].abs().max() < 1e-9 and rgb_to_ydbdr(gray)[:, 1:].abs().max() < 1e-9
