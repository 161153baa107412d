"""Videos of the toy world: the physics balances, the flow is exact, and time leaves no trace where it must not."""

import numpy as np
import pytest

from nolabel.core import UserError
from nolabel.data.toyworld import video
from nolabel.data.toyworld.factors import PROGRAMS, Streams, factors
from nolabel.data.toyworld.physics import DT, QUIET, simulate

INDEX = np.arange(300)


@pytest.fixture(scope="module")
def clips():
    return video.render(INDEX, 12, 32, "std", extras=video.EXTRAS)


def test_a_clip_does_not_depend_on_its_batch_or_length(clips):
    one = video.render([17], 6, 32, "std")
    np.testing.assert_array_equal(one["video"][0], clips["video"][17, :6])
    np.testing.assert_array_equal(one["mask"][0], clips["mask"][17, :6])
    mine = (clips["events"]["clip"] == 17) & (clips["events"]["time"] <= 6 * DT)
    for key in ("time", "object", "other", "speed"):
        np.testing.assert_array_equal(one["events"][key], clips["events"][key][mine])


def test_the_camera_takes_places_to_pixels(clips):
    world = np.concatenate((clips["position"], np.ones_like(clips["angle"])[..., None]), -1)
    seen = np.einsum("btij,btkj->btki", clips["camera"], world)
    np.testing.assert_allclose(seen, clips["keypoints"][:, :, :, 0], atol=1e-4)
    assert np.ptp(clips["camera"], 1).max() > 0.3, "it moves"


def test_types_and_shapes(clips):
    assert clips["video"].shape == (300, 12, 32, 32, 3) and clips["video"].dtype == np.uint8
    assert clips["flow"].shape == (300, 11, 32, 32, 2) and clips["flow"].dtype == np.float32
    assert clips["depth"].shape == (300, 12, 32, 32)
    assert set(np.unique(clips["label"])) == set(range(len(PROGRAMS)))
    np.testing.assert_array_equal(clips["depth"] == 1, clips["mask"] == 0)
    with pytest.raises(UserError, match="sound"):
        video.render([0], extras=("sound",))


@pytest.mark.parametrize(("flow", "now", "later"), [("flow", 0, 1), ("flow_back", 1, 0)])
def test_flow_says_where_pixels_go(clips, flow, now, later):
    """Looking up the other frame where the flow points gives this frame, wherever the same thing is seen there."""
    t, n = 5, 300
    i, j = np.mgrid[:32, :32]
    to = clips[flow][:, t] + np.stack((j, i), -1)
    x, y = np.floor(to).astype(int)[..., 0], np.floor(to).astype(int)[..., 1]
    there, here = clips["video"][:, t + later].astype(float), clips["video"][:, t + now].astype(float)
    ok = (x >= 0) & (y >= 0) & (x < 31) & (y < 31)
    x, y, clip = x.clip(0, 30), y.clip(0, 30), np.arange(n)[:, None, None]
    fx, fy = (to[..., :1] - x[..., None]), (to[..., 1:] - y[..., None])
    look = sum(
        wx * wy * there[clip, y + dy, x + dx] for dx, wx in ((0, 1 - fx), (1, fx)) for dy, wy in ((0, 1 - fy), (1, fy))
    )
    for dx, dy in np.ndindex(2, 2):
        ok &= clips["mask"][:, t + later][clip, y + dy, x + dx] == clips["mask"][:, t + now]
    assert ok.mean() > 0.8
    error, still = np.abs(look - here)[ok], np.abs(there - here)[ok]
    assert error.mean() < 2.0 and error.mean() < 0.6 * still.mean()


def test_objects_stay_in_the_box(clips):
    table = factors(INDEX, "std")
    present = np.arange(2) < table["count"][:, None]
    position = clips["position"].transpose(0, 2, 1, 3)[present]
    assert position.min() > 0.05 and position.max() < 0.95


def test_impacts_are_where_velocity_jumps(clips):
    events, velocity = clips["events"], clips["velocity"]
    assert (events["speed"] > QUIET).all() and (events["time"] >= 0).all() and (events["time"] <= 12 * DT + 1e-9).all()
    frame = np.ceil(events["time"] / DT - 1e-6).astype(int)
    seen = (frame < 12) & (frame > 0)
    clip, thing = events["clip"][seen], events["object"][seen]
    jump = np.abs(velocity[clip, frame[seen], :] - velocity[clip, frame[seen] - 1, :])[np.arange(len(clip)), thing]
    assert np.median(jump.max(-1) / events["speed"][seen]) > 1


def test_a_single_frame_does_not_tell_the_time():
    """Positions and speeds are distributed alike at both ends of a clip (two-sample Kolmogorov-Smirnov, p = 0.01)."""
    index = np.arange(3000)
    table, limit = factors(index, "std"), 1.63 * np.sqrt(2 / 3000)
    for reversible in (False, True):
        motion = simulate(table, Streams(index), 16, reversible=reversible)
        for values in (motion.position[:, :, 0, 0], motion.position[:, :, 0, 1], np.abs(motion.velocity[:, :, 0, 1])):
            first, last = np.sort(values[:, 0]), np.sort(values[:, -1])
            at = np.concatenate((first, last))
            gap = np.searchsorted(first, at, "right") - np.searchsorted(last, at, "right")
            assert np.abs(gap).max() / 3000 < limit


def test_the_reversible_control_keeps_its_energy():
    table = factors(INDEX, "easy")
    speed = np.linalg.norm(simulate(table, Streams(INDEX), 30, reversible=True).velocity, axis=-1)
    np.testing.assert_allclose(speed, np.broadcast_to(speed[:, :1], speed.shape), rtol=1e-9)
    lossy = np.linalg.norm(simulate(table, Streams(INDEX), 30).velocity, axis=-1)
    assert (np.abs(lossy[:, 0] - lossy[:, -1]) > 0.01).mean() > 0.8


def test_material_changes_the_motion_and_not_the_start_of_the_scene():
    before, after = video.render(INDEX[:50], 4), video.render(INDEX[:50], 4, resample=("material",))
    np.testing.assert_array_equal(before["shape"], after["shape"])
    np.testing.assert_array_equal(before["label"], after["label"])
    assert not np.allclose(before["position"], after["position"])
