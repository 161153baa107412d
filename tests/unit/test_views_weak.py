import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nolabel.core.random import generator
from nolabel.views import weak
from nolabel.views.image import to_uint8

NAMES = ("identity", "autocontrast", "brightness", "color", "contrast", "equalize", "posterize", "rotate", "sharpness",
         "shear_x", "shear_y", "solarize", "translate_x", "translate_y")  # fmt: skip


def photo(count=4, side=24):
    rng = generator(0)
    coarse = torch.rand(count, 3, 6, 6, generator=rng)
    return (torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1) * 255).round() / 255


def pil(x):
    return Image.fromarray((x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def back(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255


def operation(name):
    return weak.OPERATIONS[NAMES.index(name)]


def at(u, x):
    return torch.full((len(x), 1, 1, 1), u)


def test_no_shift_moves_nothing():
    x = torch.rand(6, 3, 16, 16, generator=generator(0))
    assert torch.equal(weak.shift_and_flip(x, 0.0, generator(1), flip=False), x)
    either = weak.shift_and_flip(x, 0.0, generator(1))
    assert all(torch.equal(y, a) or torch.equal(y, a.flip(2)) for y, a in zip(either, x))
    assert not torch.equal(weak.shift_and_flip(x, 0.01, generator(1), flip=False), x), "a little is a pixel at least"


def test_shift_and_flip_moves_whole_pixels():
    x = torch.arange(2 * 8 * 8).view(2, 1, 8, 8).float()
    seen = set()
    for seed in range(200):
        y = weak.shift_and_flip(x, 0.125, generator(seed))
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        for i in range(2):
            matches = [
                (top, left, flip)
                for top in range(3) for left in range(3) for flip in (False, True)
                if torch.equal(y[i, 0], (c := padded[i, 0, top : top + 8, left : left + 8]) if not flip else c.flip(1))
            ]  # fmt: skip
            assert matches
            seen |= set(matches)
    assert len(seen) == 18


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("color", ImageEnhance.Color),
     ("contrast", ImageEnhance.Contrast), ("sharpness", ImageEnhance.Sharpness)],
)  # fmt: skip
def test_blends_are_pillows(name, enhancer):
    x, u = photo(), 0.4
    want = torch.stack([back(enhancer(pil(image)).enhance(0.05 + 0.9 * u)) for image in x])
    assert (operation(name)(x.clone(), at(u, x)) - want).abs().max() < 2.5 / 255


@pytest.mark.parametrize(
    ("name", "u", "theirs"),
    [("autocontrast", 0.0, ImageOps.autocontrast),
     ("solarize", 0.5, lambda i: ImageOps.solarize(i, 128)),
     ("posterize", 0.1, lambda i: ImageOps.posterize(i, 4)),
     ("posterize", 0.99, lambda i: ImageOps.posterize(i, 8)),
     ("equalize", 0.0, ImageOps.equalize)],
)  # fmt: skip
def test_levels_are_pillows(name, u, theirs):
    x = photo(side=64)
    want = torch.stack([back(theirs(pil(image))) for image in x])
    assert (operation(name)(x.clone(), at(u, x)) - want).abs().max() < 1.5 / 255


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometry_in_the_middle_is_none(name):
    x = photo()
    torch.testing.assert_close(operation(name)(x, at(0.5, x)), x, atol=1e-5, rtol=0)
    assert (operation(name)(x, at(0.9, x)) - x).abs().mean() > 0.01


def test_geometry_is_what_it_says():
    x = photo(1, 20)
    moved = operation("translate_x")(x, at(0.5 + 0.25 / 0.6, x))  # by a quarter of the side
    torch.testing.assert_close(moved[..., :15], x[..., 5:], atol=1e-5, rtol=0)
    assert (moved[..., 15:] - weak.GREY).abs().max() < 1e-5
    turned = operation("rotate")(x, at(1.0, x))
    want = back(pil(x[0]).rotate(30, Image.BILINEAR, fillcolor=(128, 128, 128)))
    inner = slice(5, 15)
    assert (turned[0, :, inner, inner] - want[:, inner, inner]).abs().max() < 3 / 255
    assert math.isclose(float(turned.mean()), float(want.mean()), abs_tol=0.02)


def test_operations_are_dealt_out_equally():
    x = torch.rand(14 * 3, 3, 16, 16, generator=generator(1))
    y = weak.rand_augment_round(x.clone(), generator(2))
    same = (y == x).flatten(1).all(1)
    assert same.sum() >= 3  # identity, and whatever another operation leaves as it is
    first = [(weak.rand_augment_round(x.clone(), generator(s))[0] == x[0]).all().item() for s in range(150)]
    assert 2 <= sum(first) <= 40, "identity falls on any sample"
    assert y.min() >= 0 and y.max() <= 1


def test_cut_out_is_one_square_of_its_own():
    x = torch.zeros(200, 1, 32, 32)
    holes = weak.cut_out(x, 0.5, generator(0)) == weak.GREY
    sides = holes.any(3).sum(2).flatten()
    assert sides.max() <= 16 and len(sides.unique()) > 8
    assert len({tuple(h.flatten().nonzero()[:1].flatten().tolist()) for h in holes}) > 100
    assert torch.equal(weak.cut_out(x + 1, 1e-9, generator(0)), x + 1)


def test_views_of_a_batch():
    image = (photo(6, 32) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    batch = {"image": image, "label": torch.arange(6)}
    views = weak.WeakStrong(size=32)(batch, generator(0))
    assert set(views) == {"weak", "strong", "label"}
    assert all(views[k].shape == (6, 3, 32, 32) and views[k].dtype == torch.float32 for k in ("weak", "strong"))
    again = weak.WeakStrong(size=32)(batch, generator(0))
    assert torch.equal(views["strong"], again["strong"]) and not torch.equal(views["weak"], views["strong"])
    still = weak.Weak(size=32, shift=1 / 64, flip=False)
    assert (to_uint8(still.plain(batch)["image"]).int() - image.int()).abs().max() <= 1
    two = weak.TwoWeak(size=24)(batch, generator(0))
    assert two["a"].shape == (6, 3, 24, 24) and not torch.equal(two["a"], two["b"])
    gray = {"image": image[..., :1].contiguous()}
    assert weak.WeakStrong(size=32)(gray, generator(0))["strong"].shape == (6, 1, 32, 32)
