"""The toy world: every sample a function of its index, factors that change one at a time, and shapes that are drawn right."""

import math

import numpy as np
import pytest
from matplotlib.path import Path

from nolabel.core import UserError
from nolabel.data.toyworld import images, render
from nolabel.data.toyworld.factors import GROUPS, NUISANCE, SEMANTIC, SHAPES, factors, uniform
from nolabel.data.toyworld.profiles import PROFILES

INDEX = np.arange(64)
profiles = pytest.mark.parametrize("profile", PROFILES)


def polygon(*corners):
    return Path([*corners, corners[0]])


def star():
    turn = np.arange(10) * math.pi / 5
    length = np.where(np.arange(10) % 2, 0.5, 1.15)
    return polygon(*zip(length * np.sin(turn), -length * np.cos(turn)))


def regular(corners, radius, start):
    turn = start + np.arange(corners) * 2 * math.pi / corners
    return polygon(*zip(radius * np.cos(turn), radius * np.sin(turn)))


def box(width, height):
    return polygon((-width, -height), (width, -height), (width, height), (-width, height))


OUTLINES = {
    "square": [box(0.75, 0.75)],
    "triangle": [regular(3, 1.15, -math.pi / 2)],
    "star": [star()],
    "cross": [box(0.95, 0.33), box(0.33, 0.95)],
    "ell": [box(0.85, 0.85)],  # less the corner, below
    "hexagon": [regular(6, 0.82 / math.cos(math.pi / 6), 0)],
}


def inside(shape, points):
    """Is a point (N, 2) in a shape of radius 1? By circles and polygons, not by distances."""
    radius = np.hypot(*points.T)
    if shape == "disc":
        return radius < 0.85
    if shape == "ring":
        return (radius > 0.55) & (radius < 1)
    covered = np.any([path.contains_points(points) for path in OUTLINES[shape]], 0)
    return covered & ~((points[:, 0] > -0.15) & (points[:, 1] < 0.15)) if shape == "ell" else covered


@profiles
def test_a_sample_does_not_depend_on_its_batch(profile):
    batch = images.render(INDEX, 32, profile)
    again = images.render(INDEX[::-1], 32, profile)
    one = images.render([7], 32, profile)
    for key, value in batch.items():
        np.testing.assert_array_equal(value, again[key][::-1])
        np.testing.assert_array_equal(value[7], one[key][0])


def test_types_and_shapes():
    out = images.render([0, -1, 2**40], size=48, profile="hard", seed=3)
    assert out["image"].shape == (3, 48, 48, 3) and out["image"].dtype == np.uint8
    assert out["label"].shape == (3,) and out["label"].dtype == np.int64
    assert out["mask"].shape == (3, 48, 48) and out["mask"].dtype == np.uint8
    assert len(images.CLASSES) == 8


def test_worlds_and_sizes():
    assert (images.render(INDEX, seed=0)["image"] != images.render(INDEX, seed=1)["image"]).mean() > 0.9
    large = images.render(INDEX, 64)["image"].reshape(64, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(large - images.render(INDEX, 32)["image"]).mean() < 3


def test_uniforms_are_uniform_and_uncorrelated():
    u = uniform(0, "shape", np.arange(20000), 4)
    np.testing.assert_allclose(np.quantile(u, [0.25, 0.5, 0.75], 0), [[0.25] * 4, [0.5] * 4, [0.75] * 4], atol=0.015)
    others = uniform(0, "angle", np.arange(20000), 1), uniform(1, "shape", np.arange(20000), 1), np.roll(u, 1, 0)[:, :1]
    assert np.abs(np.corrcoef(np.concatenate((u, *others), 1).T) - np.eye(7)).max() < 0.03
    np.testing.assert_array_equal(u[:, :2], uniform(0, "shape", np.arange(20000), 2))


def test_the_world_stays_the_world():
    """Integer arithmetic, so these hold on every machine; if they change, so does every number ever reported."""
    expected = [[0.6434378846349363, 0.10983623340730986], [0.9232780900018904, 0.4662168523788265]]
    np.testing.assert_array_equal(uniform(0, "shape", [0, -1], 2), expected)
    assert factors(np.arange(8))["shape"][:, 0].tolist() == [5, 0, 4, 0, 2, 4, 3, 2]


@profiles
def test_resampling_nuisance_keeps_the_meaning(profile):
    before, after = factors(INDEX, profile), factors(INDEX, profile, resample=("nuisance",))
    for name in SEMANTIC:
        np.testing.assert_array_equal(before[name], after[name])
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    still = set() if profile in ("std", "hard") else {"camera"}
    assert set(changed) == set(before) - set(SEMANTIC) - still
    other = factors(INDEX, profile, resample=("nuisance",), draw=1)
    assert not np.array_equal(after["position"], other["position"])


@pytest.mark.parametrize("name", SEMANTIC)
def test_resampling_one_factor_keeps_all_others(name):
    before, after = factors(INDEX, "hard"), factors(INDEX, "hard", resample=(name,))
    assert {key for key in before if not np.array_equal(before[key], after[key])} == {name}


def test_interventions_show_in_the_picture():
    before, after = images.render(INDEX), images.render(INDEX, resample=("material",))
    np.testing.assert_array_equal(before["mask"], after["mask"])
    differs = (before["image"] != after["image"]).any(-1)
    assert differs.any((1, 2)).mean() > 0.7  # one in six draws the same material again
    # A smooth edge reaches a pixel beyond the mask, at sharp corners two.
    wide = np.pad(before["mask"] > 0, ((0, 0), (2, 2), (2, 2)))
    near = np.any([np.roll(wide, s, (1, 2)) for s in np.ndindex(5, 5)], 0)[:, 4:, 4:]
    assert not (differs & ~near).any()


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="smell"):
        images.render([0], resample=("smell",))
    with pytest.raises(UserError, match="tiny"):
        images.render([0], profile="tiny")
    assert set(GROUPS["nuisance"]) == set(NUISANCE)


def test_classes_are_balanced():
    table = factors(np.arange(40000), "hard")
    for name, count in (("shape", 8), ("material", 6)):
        shares = np.bincount(table[name][:, 0], minlength=count) / 40000
        np.testing.assert_allclose(shares, 1 / count, atol=0.01)
    pairs = np.bincount(table["shape"][:, 0] * 6 + table["material"][:, 0], minlength=48)
    assert pairs.min() > 0.8 * pairs.max() > 0


@pytest.mark.parametrize("shape", range(8))
def test_shapes_are_drawn_where_they_are(shape):
    size, angle, radius = 128, 0.4, 0.3
    thing = np.zeros((1, 1, len(render.OBJECT)))
    thing[0, 0, :7] = 0.45, 0.55, radius, angle, shape, 0, 1
    _, ids = render.draw(thing, np.zeros((1, len(render.SCENE))), size)
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres - 0.45, centres - 0.55)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = inside(SHAPES[shape], np.stack((x, y), -1).reshape(-1, 2) @ turn / radius).reshape(size, size)
    assert (ids[0] != expected).mean() < 2e-3  # pixels that the outline crosses
    assert 1.6 < expected.mean() / radius**2 < 2.4  # much the same area, so that size does not tell the shape


@profiles
def test_the_labelled_object_is_in_front_and_whole(profile):
    table, out = factors(np.arange(500), profile), images.render(np.arange(500), 64, profile)
    share = (out["mask"] == 1).mean((1, 2)) / table["radius"][:, 0] ** 2
    assert np.median(share) > 1.5 and np.quantile(share, 0.02) > 0.7
    assert (table["radius"][:, 1:] <= table["radius"][:, :1]).all()


@profiles
def test_colour_alone_does_not_tell_the_label(profile):
    bank, query = images.render(np.arange(5000), 32, profile), images.render(100_000 + np.arange(1000), 32, profile)
    mean = [x["image"].reshape(len(x["image"]), -1, 3).mean(1) / 255 for x in (bank, query)]
    design = [np.concatenate((m, m**2, np.ones((len(m), 1))), 1) for m in mean]
    weights = np.linalg.lstsq(design[0], np.eye(8)[bank["label"]], rcond=None)[0]
    assert ((design[1] @ weights).argmax(1) == query["label"]).mean() < 0.18
    nearest = ((mean[1][:, None] - mean[0][None]) ** 2).sum(-1).argmin(1)
    assert (bank["label"][nearest] == query["label"]).mean() < 0.18
