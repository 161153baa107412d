"""What a sample of the toy world is made of, drawn from counters instead of a generator that carries state.

Every factor has a stream of its own: a uniform is hash(seed, factor, draw, index, lane). So a sample depends neither on
its neighbours in the batch nor on the order, and one factor can be drawn again while all others stay:
`resample=("nuisance",)` keeps what a sample means, `resample=("material",)` is an intervention.

Legend: B samples, K objects.
"""

import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nolabel.core.errors import UserError
from nolabel.core.random import fold
from nolabel.data.toyworld.profiles import Profile, profile_of

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "ell", "hexagon")
MATERIALS = ("rubber", "wood", "cloth", "stone", "steel", "cork")
PROGRAMS = ("fall", "throw", "roll", "pendulum", "orbit", "collide")
BACKGROUNDS = ("stripes", "checker", "noise", "dots", "gradient")

SEMANTIC = ("shape", "material", "program", "count")
NUISANCE = (
    "position",
    "radius",
    "angle",
    "colour",
    "texture",
    "background",
    "light",
    "camera",
    "occluder",
    "motion",
    "room",
)
GROUPS = {"semantic": SEMANTIC, "nuisance": NUISANCE}

Floats = NDArray[np.float64]
Factors = dict[str, NDArray]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), element by element."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, stream: str, index: ArrayLike, lanes: int, draw: int = 0) -> Floats:
    """Uniforms in [0, 1): index (B,) -> (B, lanes), the first lanes alike for any number of lanes."""
    key = np.uint64(fold(seed, zlib.crc32(stream.encode()), draw))
    rows = _mix(np.asarray(index, np.int64).astype(np.uint64) * _GOLDEN + key)
    lane = np.arange(1, lanes + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(rows[:, None] + lane) >> np.uint64(11)) * 2.0**-53


@dataclass(frozen=True)
class Streams:
    """The streams of a batch. Those named in `resample`, by factor or by group, give other numbers for each `draw`."""

    index: NDArray[np.int64]
    seed: int = 0
    resample: Collection[str] = ()
    draw: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.resample) - {*GROUPS, *SEMANTIC, *NUISANCE}
        if unknown:
            known = ", ".join((*GROUPS, *SEMANTIC, *NUISANCE))
            raise UserError(f"toy world: cannot resample {', '.join(sorted(unknown))}; there are {known}")

    def __call__(self, factor: str, *shape: int) -> Floats:
        """Uniforms (B, *shape) of one factor."""
        again = any(factor == name or factor in GROUPS.get(name, ()) for name in self.resample)
        u = uniform(self.seed, factor, self.index, math.prod(shape), 1 + self.draw if again else 0)
        return u.reshape(len(u), *shape)

    def choice(self, factor: str, n: int, *shape: int) -> NDArray[np.int64]:
        """Integers below n (B, *shape)."""
        return (self(factor, *shape) * n).astype(np.int64)


def factors(
    index: ArrayLike, profile: str | Profile = "easy", seed: int = 0, resample: Collection[str] = (), draw: int = 0
) -> Factors:
    """The factor table of samples `index` (B,). Rows of objects that are absent hold values too; `count` tells.

    Semantic: shape, material (B, K); program, count (B,). Nuisance: position (B, K, 2), radius, angle (B, K), colour
    (B, K, 3), texture (B, K, 3: frequency, two phases), background (B,) with its colour and amplitude (B, 3) and layout
    (B, 4: frequency, angle, two phases), light (B, 3: gain, slopes), camera (B, 3: pan, zoom), occluder (B, 3).
    """
    p, rng = profile_of(profile), Streams(np.atleast_1d(np.asarray(index, np.int64)), seed, resample, draw)
    n = p.objects
    size = rng("radius", n)
    radius = _scale(size, *p.radius)
    radius[:, 1:] = radius[:, :1] * _scale(size[:, 1:], 0.6, 0.9)
    ground, back = rng("background", 12), rng("colour", n + 1, 3)
    luminance = _scale(back[:, 0, 0], 0.2, 0.8)
    amplitude = _scale(ground[:, 1], 0.3, 1.0) * p.background
    return {
        "shape": rng.choice("shape", len(SHAPES), n),
        "material": rng.choice("material", len(MATERIALS), n),
        "program": rng.choice("program", len(PROGRAMS), 1)[:, 0],
        "count": 1 + rng.choice("count", n, 1)[:, 0],
        "position": _apart(rng("position", n, 4, 2), p.margin * radius),
        "radius": radius,
        "angle": _scale(rng("angle", n), -p.rotation, p.rotation),
        "colour": _colour(_away(back[:, 1:, 0], luminance[:, None], p.contrast), back[:, 1:, 1:], p.chroma),
        "texture": rng("texture", n, 3),
        "background": (ground[:, 0] * len(BACKGROUNDS)).astype(np.int64),
        "background_colour": _colour(luminance, back[:, 0, 1:], p.chroma),
        "background_amplitude": amplitude[:, None] * _direction(ground[:, 2:5]),
        "background_layout": np.stack(
            (_scale(ground[:, 5], 2.0, 5.0), ground[:, 6] * 2 * math.pi, ground[:, 7] * 64, ground[:, 8] * 64), 1
        ),
        "light": _scale(rng("light", 3), -p.light, p.light),
        "camera": _scale(rng("camera", 3), -p.camera, p.camera),
        "occluder": rng("occluder", 3),
    }


def _scale(u: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * u


def _away(u: Floats, middle: Floats, gap: float) -> Floats:
    """Uniform over the part of 0.05 .. 0.95 that is at least `gap` away from `middle`."""
    below, above = np.maximum(middle - gap - 0.05, 0), np.maximum(0.95 - middle - gap, 0)
    x = u * (below + above)
    return np.where(x < below, 0.05 + x, middle + gap + x - below)


def _colour(luminance: Floats, u: Floats, chroma: float) -> Floats:
    """RGB (..., 3) of a luminance (...) and of hue and saturation u (..., 2), by way of YIQ."""
    hue, size = 2 * math.pi * u[..., 0], chroma * np.sqrt(u[..., 1])
    i, q = size * np.cos(hue), size * np.sin(hue)
    rgb = np.stack((0.956 * i + 0.619 * q, -0.272 * i - 0.647 * q, -1.106 * i + 1.703 * q), -1)
    # Shrink the chroma, not the luminance, where a colour leaves the cube: the contrast must hold.
    y = luminance[..., None]
    room = np.where(rgb > 0, 1 - y, y) / np.maximum(np.abs(rgb), 1e-9)
    return y + rgb * np.minimum(1, room.min(-1, keepdims=True))


def _direction(u: Floats) -> Floats:
    """A vector (..., 3) of mean about 1: patterns change the brightness and a little the hue."""
    return 1 + 0.6 * (u - 0.5)


def _apart(u: Floats, margin: Floats) -> Floats:
    """Centres (B, K, 2) from candidates u (B, K, C, 2): of each object the one farthest from those before it."""
    margin = margin[:, :, None, None]
    candidates = margin + (1 - 2 * margin) * u
    centre = candidates[:, :, 0].copy()
    for k in range(1, centre.shape[1]):
        distance = np.linalg.norm(candidates[:, k, :, None] - centre[:, None, :k], axis=-1).min(-1)
        centre[:, k] = np.take_along_axis(candidates[:, k], distance.argmax(1)[:, None, None], 1)[:, 0]
    return centre
