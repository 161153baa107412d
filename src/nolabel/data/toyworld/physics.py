"""How the objects of the toy world move: semi-implicit Euler in steps of 1/15 s, each in four parts.

Lengths are in units of the image side, y down, times in seconds, angles in radians. An object is a disc of its radius in
the unit box. Walls and objects that meet lose speed by the restitution of the materials; drag slows everything; kicks,
arriving at random, put energy back. A clip starts after a burn-in, so that it begins anywhere in this balance and one
frame says nothing about time. The arrow of time shows only in how energy comes and goes, and under `reversible` (no
gravity, no losses, no kicks) not at all.

Legend: B clips, T frames, K objects.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nolabel.data.toyworld.factors import PROGRAMS, Factors, Floats, Streams

DT = 1 / 15
"""seconds from frame to frame"""
PARTS = 4
"""integration steps a frame"""
BURN_IN = 60
"""frames before a clip begins"""
EVENTS = 64
"""most impacts noted in a clip; a clip of 16 frames has about five"""
QUIET = 0.1
"""slowest impact that is noted, in sides a second: below it things rest"""
FLOOR, LEFT, RIGHT, CEILING = 251, 252, 253, 254
"""what an object hit, where it was not object 0, 1, ..."""

RESTITUTION = (0.75, 0.5, 0.2, 0.45, 0.65, 0.35)
"""of each material: share of the speed that is left after an impact"""
DRAG = (0.5, 0.6, 0.9, 0.7, 0.4, 0.8)
"""of each material, a second"""
_LAWS = {
    "fall": (1.5, 0.0, 0.0, 0.1, 1.5),
    "throw": (1.0, 0.0, 0.0, 1.2, 1.2),
    "roll": (3.0, 0.0, 0.0, 1.4, 0.0),
    "pendulum": (3.0, 0.0, 1.0, 1.3, 0.0),
    "orbit": (0.0, 12.0, 0.0, 0.9, 0.9),
    "collide": (0.0, 0.0, 0.0, 1.6, 0.6),
}
"""of each program: gravity, pull of the centre, rod (yes or no), size of kicks along x and along y"""


@dataclass(frozen=True)
class Motion:
    """Where everything is in every frame, and what hit what."""

    position: Floats
    """(B, T, K, 2)"""
    velocity: Floats
    """(B, T, K, 2), sides a second"""
    angle: Floats
    """(B, T, K)"""
    events: dict[str, NDArray]
    """columns of equal length: clip (number in the batch), time (s from the first frame), object, other, speed"""


def simulate(table: Factors, rng: Streams, frames: int, kicks: float = 1.2, reversible: bool = False) -> Motion:
    """Move the objects of a factor table for `frames` frames; `kicks` a second and object on average.

    A longer clip begins with the shorter one.
    """
    batch, count = table["shape"].shape
    steps = BURN_IN + frames
    u = rng("motion", count + steps * count, 3)
    start, noise = u[:, :count], u[:, count:].reshape(batch, steps, count, 3)
    laws = np.array([_LAWS[name] for name in PROGRAMS])[table["program"]][:, None]
    law = np.zeros((batch, count, 9))
    law[..., :5] = laws
    law[..., 5] = np.array(RESTITUTION)[table["material"]]
    law[..., 6] = np.array(DRAG)[table["material"]]
    law[..., 7] = kicks * DT
    law[..., 8] = np.where(np.arange(count) < table["count"][:, None], table["radius"], 0)
    speed = laws[..., 3:5] * (start[..., :2] - 0.5) * 2
    if reversible:
        law[...] = np.where(np.arange(9) == 8, law, np.where(np.arange(9) == 5, 1.0, 0.0))
        speed = 1.5 * (start[..., :2] - 0.5)
    state = np.zeros((batch, count, 6))
    state[..., :2], state[..., 2:4] = table["position"], speed
    state[..., 4], state[..., 5] = table["angle"], 4 * (start[..., 2] - 0.5)
    path = np.empty((batch, frames, count, 6))
    events, found = np.zeros((batch, EVENTS, 4)), np.zeros(batch, np.int64)
    _simulate(state, law, noise, path, events, found)
    clip, row = np.nonzero(np.arange(EVENTS) < found[:, None])
    time, thing, other, impact = events[clip, row].T
    return Motion(
        path[..., :2],
        path[..., 2:4],
        path[..., 4],
        {"clip": clip, "time": time, "object": thing.astype(int), "other": other.astype(int), "speed": impact},
    )


_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _note(events, found, time, thing, other, speed):
    if time >= 0 and speed > QUIET and found[0] < EVENTS:
        events[found[0], 0] = time
        events[found[0], 1] = thing
        events[found[0], 2] = other
        events[found[0], 3] = speed
        found[0] += 1


@_jit
def _walls(s, law, k, time, events, found):
    """Keep object k in the box, its state s = (x, y, vx, vy, angle, spin)."""
    radius, bounce = law[8], law[5]
    for axis in range(2):
        low, high = (LEFT, RIGHT) if axis == 0 else (CEILING, FLOOR)
        if s[axis] < radius and s[axis + 2] < 0:
            _note(events, found, time, k, low, -s[axis + 2])
            s[axis], s[axis + 2] = 2 * radius - s[axis], -bounce * s[axis + 2]
        elif s[axis] > 1 - radius and s[axis + 2] > 0:
            _note(events, found, time, k, high, s[axis + 2])
            s[axis], s[axis + 2] = 2 * (1 - radius) - s[axis], -bounce * s[axis + 2]


@_jit
def _meet(a, b, law_a, law_b, i, j, time, events, found):
    """Let objects i and j, of equal mass, push each other where they overlap."""
    x, y = b[0] - a[0], b[1] - a[1]
    gap = math.sqrt(x * x + y * y) + 1e-9
    overlap = law_a[8] + law_b[8] - gap
    if overlap <= 0:
        return
    x, y = x / gap, y / gap
    approach = (a[2] - b[2]) * x + (a[3] - b[3]) * y
    if approach <= 0:
        return
    _note(events, found, time, i, j, approach)
    push = 0.5 * (1 + 0.5 * (law_a[5] + law_b[5])) * approach
    a[2] -= push * x
    a[3] -= push * y
    b[2] += push * x
    b[3] += push * y


@_jit
def _hang(s, anchor, length):
    """Keep a pendulum at its rod: back to the circle, and no speed along the rod."""
    x, y = s[0] - anchor, s[1]
    reach = math.sqrt(x * x + y * y) + 1e-9
    x, y = x / reach, y / reach
    s[0], s[1] = anchor + length * x, length * y
    along = s[2] * x + s[3] * y
    s[2] -= along * x
    s[3] -= along * y


@_jit
def _simulate(state, laws, noise, path, events, found):
    steps, frames, count = noise.shape[1], path.shape[1], state.shape[1]
    h = DT / PARTS
    for b in range(len(state)):
        anchors = state[b, :, 0].copy()
        rods = np.maximum(0.45, 0.9 - laws[b, :, 8] - 0.2 * np.arange(count))
        for step in range(steps):
            frame = step - (steps - frames)
            if frame >= 0:
                path[b, frame] = state[b]
            for k in range(count):
                s, law = state[b, k], laws[b, k]
                if noise[b, step, k, 0] < law[7]:
                    s[2] += law[3] * 2 * (2 * noise[b, step, k, 1] - 1)
                    s[3] += law[4] * 2 * (2 * noise[b, step, k, 2] - 1)
            for part in range(PARTS):
                time = (frame + (part + 1) / PARTS) * DT
                for k in range(count):
                    s, law = state[b, k], laws[b, k]
                    if law[8] <= 0:
                        continue
                    slow = math.exp(-law[6] * h)
                    s[2] = (s[2] + h * law[1] * (0.5 - s[0])) * slow
                    s[3] = (s[3] + h * (law[0] + law[1] * (0.5 - s[1]))) * slow
                    s[5] *= slow
                    s[0] += h * s[2]
                    s[1] += h * s[3]
                    s[4] += h * s[5]
                    if law[2] > 0:
                        _hang(s, anchors[k], rods[k])
                    _walls(s, law, k, time, events[b], found[b : b + 1])
                    if law[2] == 0 and law[0] > 0 and s[1] > 1 - law[8] - 0.01:
                        s[5] = s[2] / law[8]  # on the floor things roll
                for i in range(count):
                    for j in range(i + 1, count):
                        if laws[b, i, 8] > 0 and laws[b, j, 8] > 0:
                            _meet(state[b, i], state[b, j], laws[b, i], laws[b, j], i, j, time, events[b],
                                  found[b : b + 1])  # fmt: skip
