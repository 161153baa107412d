"""Still images of the toy world, labelled by the shape of the object in front. No download, any number of samples.

>>> render([0, 1, 2], size=32)["image"].shape
(3, 32, 32, 3)
"""

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nolabel.data.toyworld.factors import SHAPES, Factors, factors
from nolabel.data.toyworld.profiles import Profile, profile_of
from nolabel.data.toyworld.render import BAR, OBJECT
from nolabel.data.toyworld.render import draw as draw_scenes

CLASSES = SHAPES
"""names of the labels"""


def render(
    index: ArrayLike,
    size: int = 32,
    profile: str | Profile = "easy",
    seed: int = 0,
    resample: Collection[str] = (),
    draw: int = 0,
) -> dict[str, NDArray]:
    """Samples `index` (B,) of the world `seed`, each the same in any batch.

    Returns image: uint8 (B, size, size, 3) RGB; label: int64 (B,) the shape; mask: uint8 (B, size, size) with 0 for the
    background, k + 1 for object k and 255 for an occluder. Factors (or groups of them) named in `resample` are drawn
    again, each `draw` differently, and all others stay.
    """
    table = factors(index, profile, seed, resample, draw)
    image, mask = draw_scenes(object_state(table, profile), scene_state(table), size)
    return {"image": image, "label": table["shape"][:, 0], "mask": mask}


def object_state(table: Factors, profile: str | Profile) -> NDArray[np.float64]:
    """What `render.draw` needs to know of the objects of a factor table: (B, K, 16), occluder first, then 0, 1, ..."""
    p = profile_of(profile)
    batch, count = table["shape"].shape
    number = np.arange(count)
    zoom = 1 + 0.5 * table["camera"][:, 2, None]
    centre = 0.5 + zoom[..., None] * (table["position"] - table["camera"][:, None, :2] - 0.5)
    state = _fields(
        batch,
        count,
        x=centre[..., 0],
        y=centre[..., 1],
        radius=np.where(number < table["count"][:, None], zoom * table["radius"], 0),
        angle=table["angle"],
        shape=table["shape"],
        material=table["material"],
        id=number + 1,
        frequency=1.2 + 0.8 * table["texture"][..., 0],
        phase_u=64 * table["texture"][..., 1],
        phase_v=64 * table["texture"][..., 2],
        colour=table["colour"],
        amplitude=p.texture,
    )
    if not p.occluder:
        return state
    x, y, turn = table["occluder"].T[..., None]
    dark = 0.5 * table["background_colour"][:, None]
    bar = _fields(batch, 1, x=x, y=y, radius=0.4, angle=math.pi * turn, shape=BAR, id=255, colour=dark)
    return np.concatenate((bar, state), 1)


def _fields(batch: int, count: int, colour: NDArray, amplitude: float = 0, **fields: ArrayLike) -> NDArray[np.float64]:
    """Objects (B, K, 16) from their named fields; those not named are 0."""
    state = np.zeros((batch, count, len(OBJECT)))
    state[..., -6:-3], state[..., -3:] = colour, amplitude
    for name, value in fields.items():
        state[..., OBJECT.index(name)] = value
    return state


def scene_state(table: Factors) -> NDArray[np.float64]:
    """What `render.draw` needs to know of the backgrounds of a factor table: (B, 16), the fields `SCENE`."""
    family = 1 + table["background"][:, None]
    light = table["light"] + np.array([1.0, 0.0, 0.0])
    shift = -0.5 * table["camera"][:, :2]  # far away, so it moves half as much as the objects
    colours = table["background_colour"], table["background_amplitude"]
    return np.concatenate((family, table["background_layout"], *colours, light, shift), 1)


def depths(objects: int) -> NDArray[np.float32]:
    """Depth of every value of a mask: object 0 is the nearest, an occluder nearer still."""
    depth = np.zeros(256, np.float32)
    depth[: objects + 1] = [1, *((k + 1) / (objects + 1) for k in range(objects))]
    return depth
