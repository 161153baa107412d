"""Clouds of the toy world: six kinds of things put together from boxes, cylinders and cones, with their parts.

Points lie on the surfaces of the pieces, as many as their area asks for, y up, in the unit ball around their mean.
Proportions, yaw and sensor noise are nuisance.

Legend: B things, N pieces, P points.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from nolabel.data.toyworld.factors import uniform
from nolabel.data.toyworld.sound import _white

CLASSES = ("table", "chair", "plane", "lamp", "mug", "car")
PARTS = (
    "top", "leg", "seat", "back", "fuselage", "wing", "tail", "base", "pole", "shade", "cup", "handle", "body", "cabin",
    "wheel",
)  # fmt: skip
BOX, ROUND = 0, 1
"""a box with half its sides; a frustum along an axis with its radii at both ends and half its length"""
MOST = 8
"""pieces"""
YAW = 0.6
"""largest turn about the vertical, radians"""

_jit = njit(nogil=True, cache=True, error_model="numpy")

Piece = tuple[float, ...]
"""kind, part, axis (0, 1, 2 of a frustum), centre x, y, z, and three sizes"""


def _table(u: NDArray) -> list[Piece]:
    wide, deep, high = 0.6 + 0.4 * u[0], 0.4 + 0.3 * u[1], 0.4 + 0.4 * u[2]
    thick, leg = 0.03 + 0.03 * u[3], 0.03 + 0.03 * u[4]
    if u[5] < 0.3:  # round, on one leg
        top = (ROUND, 0, 1, 0, high, 0, wide, wide, thick)
        return [
            top,
            (ROUND, 1, 1, 0, high / 2, 0, 2 * leg, leg, high / 2),
            (ROUND, 1, 1, 0, 0, 0, 0.4 * wide, 0.3 * wide, 0.02),
        ]
    legs = [
        (ROUND, 1, 1, x * (wide - leg), high / 2, z * (deep - leg), leg, leg, high / 2)
        for x in (-1, 1)
        for z in (-1, 1)
    ]
    return [(BOX, 0, 1, 0, high, 0, wide, thick, deep), *legs]


def _chair(u: NDArray) -> list[Piece]:
    wide, high, back = 0.35 + 0.15 * u[0], 0.35 + 0.2 * u[1], 0.3 + 0.3 * u[2]
    leg, thick = 0.025 + 0.02 * u[3], 0.03 + 0.03 * u[4]
    legs = [
        (ROUND, 1, 1, x * (wide - leg), high / 2, z * (wide - leg), leg, leg, high / 2)
        for x in (-1, 1)
        for z in (-1, 1)
    ]
    seat = (BOX, 2, 1, 0, high, 0, wide, thick, wide)
    return [seat, (BOX, 3, 1, 0, high + back, -wide + thick, wide, back, thick), *legs]


def _plane(u: NDArray) -> list[Piece]:
    long, thin, span = 0.7 + 0.3 * u[0], 0.07 + 0.06 * u[1], 0.6 + 0.4 * u[2]
    chord, tail = 0.12 + 0.1 * u[3], 0.2 + 0.12 * u[4]
    body = (ROUND, 4, 0, 0, 0, 0, thin, thin, long)
    nose = (ROUND, 4, 0, long + 0.12, 0, 0, thin, 0.02, 0.12)
    wings = [(BOX, 5, 1, 0.1 * long, 0, z * span / 2, chord, 0.015, span / 2) for z in (-1, 1)]
    fins = [
        (BOX, 6, 1, -0.9 * long, 0, 0, 0.08, 0.012, tail),
        (BOX, 6, 1, -0.9 * long, tail / 2, 0, 0.08, tail / 2, 0.012),
    ]
    return [body, nose, *wings, *fins]


def _lamp(u: NDArray) -> list[Piece]:
    high, foot, shade = 0.6 + 0.5 * u[0], 0.2 + 0.15 * u[1], 0.25 + 0.2 * u[2]
    tall = 0.15 + 0.12 * u[3]
    return [
        (ROUND, 7, 1, 0, 0, 0, foot, foot * (0.5 + 0.5 * u[4]), 0.03),
        (ROUND, 8, 1, 0, high / 2, 0, 0.025, 0.025, high / 2),
        (ROUND, 9, 1, 0, high + tall * 0.5, 0, shade, shade * (0.3 + 0.5 * u[5]), tall),
    ]


def _mug(u: NDArray) -> list[Piece]:
    wide, high, out, thick = 0.3 + 0.2 * u[0], 0.3 + 0.25 * u[1], 0.12 + 0.12 * u[2], 0.025 + 0.02 * u[3]
    reach, bow = 0.5 * high, wide + out
    return [
        (ROUND, 10, 1, 0, 0, 0, wide * (0.8 + 0.2 * u[4]), wide, high),
        (BOX, 11, 1, bow, 0, 0, thick, reach, thick),
        (BOX, 11, 1, wide + out / 2, reach, 0, out / 2, thick, thick),
        (BOX, 11, 1, wide + out / 2, -reach, 0, out / 2, thick, thick),
    ]


def _car(u: NDArray) -> list[Piece]:
    long, wide, high = 0.7 + 0.3 * u[0], 0.3 + 0.1 * u[1], 0.12 + 0.08 * u[2]
    cabin, wheel, shift = 0.3 + 0.2 * u[3], 0.12 + 0.06 * u[4], 0.3 * (u[5] - 0.5)
    wheels = [(ROUND, 14, 2, x * 0.6 * long, -high, z * wide, wheel, wheel, 0.04) for x in (-1, 1) for z in (-1, 1)]
    body = (BOX, 12, 1, 0, 0, 0, long, high, wide)
    return [body, (BOX, 13, 1, shift, 2 * high, 0, cabin, high, 0.85 * wide), *wheels]


_MAKERS = (_table, _chair, _plane, _lamp, _mug, _car)


@_jit
def _sample(pieces, counts, keys, points, normals, part, piece):
    area = np.zeros((8, 6))
    for b in range(len(pieces)):
        total = 0.0
        area[:] = 0
        for n in range(counts[b]):
            k = pieces[b, n]
            p, q, r = k[6], k[7], k[8]
            if k[0] == 0:  # faces -x +x -y +y -z +z
                area[n, 0] = area[n, 1] = 4 * q * r
                area[n, 2] = area[n, 3] = 4 * p * r
                area[n, 4] = area[n, 5] = 4 * p * q
            else:  # mantle and two ends
                area[n, 0] = math.pi * (p + q) * math.sqrt((p - q) ** 2 + 4 * r * r)
                area[n, 1], area[n, 2] = math.pi * p * p, math.pi * q * q
            total += area[n].sum()
        for i in range(points.shape[1]):
            pick = 0.5 * (1 + _white(keys[b], 4 * i)) * total
            n, face = 0, 0
            while True:
                if pick < area[n, face] or (n == counts[b] - 1 and face == 5):
                    break
                pick -= area[n, face]
                face += 1
                if face == 6:
                    n, face = n + 1, 0
            u, v = _white(keys[b], 4 * i + 1), _white(keys[b], 4 * i + 2)
            k = pieces[b, n]
            p, q, r = k[6], k[7], k[8]
            xyz, out = np.zeros(3), np.zeros(3)
            if k[0] == 0:
                axis = face // 2
                side = 2.0 * (face % 2) - 1
                others = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
                xyz[axis] = side * k[6 + axis]
                xyz[others[0]], xyz[others[1]] = u * k[6 + others[0]], v * k[6 + others[1]]
                out[axis] = side
            else:
                turn = math.pi * u
                along, radius, lift = 0.0, 0.0, 0.0
                if face == 0:  # more where it is wide: the density along the axis is linear
                    t = 0.5 * (1 + v)
                    if abs(p - q) > 1e-9:
                        t = (p - math.sqrt(p * p + t * (q * q - p * p))) / (p - q)
                    along, radius = (2 * t - 1) * r, p + t * (q - p)
                    slant = math.sqrt((p - q) ** 2 + 4 * r * r)
                    lift, flat = (p - q) / slant, 2 * r / slant
                else:
                    end = p if face == 1 else q
                    along, radius = (-r if face == 1 else r), end * math.sqrt(0.5 * (1 + v))
                    lift, flat = (-1.0 if face == 1 else 1.0), 0.0
                axis = int(k[2])
                first, second = (axis + 1) % 3, (axis + 2) % 3
                xyz[axis], xyz[first], xyz[second] = along, radius * math.cos(turn), radius * math.sin(turn)
                out[axis], out[first], out[second] = lift, flat * math.cos(turn), flat * math.sin(turn)
            for d in range(3):
                points[b, i, d], normals[b, i, d] = xyz[d] + k[3 + d], out[d]
            part[b, i], piece[b, i] = int(k[1]), n


def kinds(index: ArrayLike, seed: int = 0, draw: int = 0) -> NDArray[np.int64]:
    """What things are: int64 (B,), of `CLASSES`."""
    u = uniform(seed, "shapes kind", np.atleast_1d(np.asarray(index, np.int64)), 1, draw)
    return (u[:, 0] * len(CLASSES)).astype(np.int64)


def render(
    index: ArrayLike, points: int = 512, seed: int = 0, resample: Collection[str] = (), draw: int = 0
) -> dict[str, Any]:
    """Things `index` (B,) of the world `seed`, each the same in any batch.

    Returns points: float32 (B, P, 3); normals: float32 (B, P, 3), outwards; part: int64 (B, P), of `PARTS`; piece: int64
    (B, P); label: int64 (B,). `resample`: any of kind, size, pose, noise.
    """
    rows = np.atleast_1d(np.asarray(index, np.int64))

    def stream(name: str, lanes: int) -> NDArray[np.float64]:
        return uniform(seed, f"shapes {name}", rows, lanes, 1 + draw if name in resample else 0)

    label = kinds(rows, seed, 1 + draw if "kind" in resample else 0)
    size, pose = stream("size", 8), stream("pose", 2)
    pieces, counts = np.zeros((len(rows), MOST, 9)), np.zeros(len(rows), np.int64)
    for b, kind in enumerate(label.tolist()):
        found = _MAKERS[kind](size[b])
        pieces[b, : len(found)], counts[b] = found, len(found)
    keys = (stream("noise", 2)[:, 0] * 2**63).astype(np.uint64)
    xyz, normals = np.empty((2, len(rows), points, 3))
    part, piece = np.empty((2, len(rows), points), np.int64)
    _sample(pieces, counts, keys, xyz, normals, part, piece)
    yaw = YAW * (2 * pose[:, 0] - 1)
    turn = np.zeros((len(rows), 3, 3))
    turn[:, 0, 0], turn[:, 0, 2], turn[:, 1, 1] = np.cos(yaw), -np.sin(yaw), 1
    turn[:, 2, 0], turn[:, 2, 2] = np.sin(yaw), np.cos(yaw)
    xyz, normals = xyz @ turn, normals @ turn
    xyz -= xyz.mean(1, keepdims=True)
    xyz /= np.linalg.norm(xyz, axis=2).max(1)[:, None, None]
    noise = uniform(seed, "shapes sensor", rows, 3 * points, 1 + draw if "noise" in resample else 0)
    xyz += 0.01 * (noise.reshape(xyz.shape) - 0.5)
    return {
        "points": xyz.astype(np.float32),
        "normals": normals.astype(np.float32),
        "part": part,
        "piece": piece,
        "label": label,
    }


def seen_from(points: NDArray, yaw: float, pitch: float, cells: int = 24) -> NDArray[np.bool_]:
    """Which points (B, P, 3) a depth camera far away sees: in each cell of its picture the nearest, and those beside it.

    Two cameras see the same points where both masks are true: exact correspondences.
    """
    c, s, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    right, up = np.array([c, 0, -s]), np.array([s * sp, cp, c * sp])
    forward = np.cross(right, up)
    depth = points @ -forward
    cell = [((1.05 + points @ axis) / 2.1 * cells).astype(np.int64).clip(0, cells - 1) for axis in (right, up)]
    place = np.arange(len(points))[:, None] * cells**2 + cell[0] * cells + cell[1]
    nearest = np.full(len(points) * cells**2, np.inf)
    np.minimum.at(nearest, place.reshape(-1), depth.reshape(-1))
    return depth < nearest[place] + 2.5 / cells  # type: ignore[no-any-return]
