"""Videos of the toy world: the objects of a still image move by a physical program, and impacts are told with their time.

>>> render([0, 1], frames=8)["video"].shape
(2, 8, 64, 64, 3)

Legend: B clips, T frames, K objects, S side in pixels.
"""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nolabel.core.errors import UserError
from nolabel.data.toyworld import sound
from nolabel.data.toyworld.factors import PROGRAMS, Factors, Streams, factors
from nolabel.data.toyworld.images import depths, object_state, scene_state
from nolabel.data.toyworld.physics import DT, Motion, simulate
from nolabel.data.toyworld.profiles import Profile, profile_of
from nolabel.data.toyworld.render import OBJECT, flow_between
from nolabel.data.toyworld.render import draw as draw_scenes

CLASSES = PROGRAMS
"""names of the labels"""
EXTRAS = ("depth", "flow", "flow_back", "keypoints", "audio")


def render(
    index: ArrayLike,
    frames: int = 16,
    size: int = 64,
    profile: str | Profile = "std",
    seed: int = 0,
    resample: Collection[str] = (),
    draw: int = 0,
    extras: Collection[str] = (),
    reversible: bool = False,
    rate: int = 8000,
) -> dict[str, Any]:
    """Clips `index` (B,) of the world `seed` at 15 frames a second, each the same in any batch.

    Returns video: uint8 (B, T, S, S, 3) RGB; label: int64 (B,) the program of motion; shape, material: int64 (B, K);
    mask: uint8 (B, T, S, S) as of still images; position, velocity (B, T, K, 2) and angle (B, T, K) in the world;
    events: the impacts, as in `physics.Motion`; camera: float64 (B, T, 2, 3), the matrix that takes (x, y, 1) of the world to
    pixels to the right and down. In `extras`:

    - depth: float32 (B, T, S, S), the background at 1
    - flow: float32 (B, T - 1, S, S, 2), from frame t to t + 1 in pixels to the right and down
    - flow_back: the same from frame t + 1 to t, for what frame t + 1 shows
    - keypoints: float32 (B, T, K, 5, 2) in pixels to the right and down: the centre of each object and four points
      that turn with it, wherever they are hidden
    - audio: int16 (B, S), `rate` samples a second, see `sound`

    `reversible` is the control for the arrow of time: neither losses nor gravity nor kicks.
    """
    if unknown := set(extras) - set(EXTRAS):
        raise UserError(f"toy world: no {', '.join(sorted(unknown))}; extras are {', '.join(EXTRAS)}")
    p = profile_of(profile)
    p = replace(p, radius=(0.7 * p.radius[0], 0.7 * p.radius[1]), margin=1.0)  # room to move
    table = factors(index, p, seed, resample, draw)
    rng = Streams(np.atleast_1d(np.asarray(index, np.int64)), seed, resample, draw)
    motion = simulate(table, rng, frames, reversible=reversible)
    moved = _frames(table, motion, rng, p)
    objects, scenes = object_state(moved, p), scene_state(moved)
    video, mask = draw_scenes(objects, scenes, size)
    batch = len(rng.index)
    out: dict[str, Any] = {
        "video": video.reshape(batch, frames, size, size, 3),
        "label": table["program"],
        "shape": table["shape"],
        "material": table["material"],
        "mask": mask.reshape(batch, frames, size, size),
        "position": motion.position,
        "velocity": motion.velocity,
        "angle": motion.angle,
        "events": motion.events,
        "camera": _camera(moved["camera"], size).reshape(batch, frames, 2, 3),
    }
    if "keypoints" in extras:
        out["keypoints"] = _keypoints(objects, size).reshape(batch, frames, p.objects, 5, 2)
    if "audio" in extras:
        out["audio"] = sound.render(table, motion, rng, rate)
    if "depth" in extras:
        out["depth"] = np.take(depths(p.objects), out["mask"])
    for name, now, later in (("flow", slice(None, -1), slice(1, None)), ("flow_back", slice(1, None), slice(None, -1))):
        if name in extras:
            out[name] = _flow(objects, scenes, out["mask"], now, later)
    return out


def _frames(table: Factors, motion: Motion, rng: Streams, p: Profile) -> Factors:
    """The factor table of every frame, (B * T, ...): places from the motion, the camera on a slow path, else as it was."""
    batch, frames = motion.angle.shape[:2]
    out = {name: np.repeat(value, frames, 0) for name, value in table.items()}
    out["position"] = motion.position.reshape(batch * frames, -1, 2)
    out["angle"] = motion.angle.reshape(batch * frames, -1)
    u = rng("camera", 9)[:, 3:].reshape(batch, 1, 2, 3)
    time = np.arange(frames)[:, None] * DT
    sway = np.sin(2 * math.pi * ((0.2 + 0.4 * u[:, :, 0]) * time + u[:, :, 1]))
    path = np.stack([table["camera"]] * frames, 1) + p.camera * sway
    out["camera"] = path.reshape(batch * frames, 3)
    return out


def _camera(pan_and_zoom: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """From pan and zoom (N, 3), as `images.object_state` reads them, to matrices (N, 2, 3)."""
    zoom = size * (1 + 0.5 * pan_and_zoom[:, 2])
    shift = 0.5 * size - 0.5 - zoom[:, None] * (pan_and_zoom[:, :2] + 0.5)
    return np.concatenate((zoom[:, None, None] * np.eye(2), shift[..., None]), -1)


def _keypoints(objects: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Centre and four points of the objects with an id of their own (N, K, 16) -> (N, K, 5, 2)."""
    things = objects[:, -(objects.shape[1] - (objects[0, 0, OBJECT.index("id")] == 255)) :]
    x, y, radius, angle = (things[..., i, None] for i in range(4))
    turn = angle + np.array([0, 0.5, 1, 1.5]) * math.pi
    around = np.stack((x + 0.6 * radius * np.cos(turn), y + 0.6 * radius * np.sin(turn)), -1)
    points = np.concatenate((np.stack((x, y), -1), around), -2)
    return (size * points - 0.5).astype(np.float32)


def _flow(
    objects: NDArray[np.float64], scenes: NDArray[np.float64], mask: NDArray[np.uint8], now: slice, later: slice
) -> NDArray[np.float32]:
    batch, frames, size = mask.shape[:3]

    def pick(state: NDArray, which: slice) -> NDArray:
        by_clip = state.reshape(batch, frames, *state.shape[1:])[:, which]
        return np.ascontiguousarray(by_clip.reshape(-1, *state.shape[1:]))

    ids = np.ascontiguousarray(mask[:, now]).reshape(-1, size, size)
    flow = flow_between(pick(objects, now), pick(scenes, now), pick(objects, later), pick(scenes, later), ids)
    return flow.reshape(batch, frames - 1, size, size, 2)
