"""Still images of the toy world, labelled by the shape of the object in front. No download, any number of samples.

    >>> render([0, 1, 2], size=32)["image"].shape
    (3, 32, 32, 3)
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nolabel.data.toyworld.factors import SHAPES, Factors, factors
from nolabel.data.toyworld.profiles import Profile, profile_of
from nolabel.data.toyworld.render import BAR, OBJECT, SCENE, draw as draw_scenes

CLASSES = SHAPES
"""names of the labels"""


def render(
    index: ArrayLike,
    size: int = 32,
    profile: str | Profile = "easy",
    seed: int = 0,
    resample: Sequence[str] = (),
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
    """What `render.draw` needs to know of the objects of a factor table: (B, K, fields), occluder first, then 0, 1, ..."""
    p = profile_of(profile)
    batch, count = table["shape"].shape
    state = np.zeros((batch, count, len(OBJECT)))
    put = {name: state[..., i] for i, name in enumerate(OBJECT)}
    number = np.arange(count)
    pan, zoom = table["camera"][:, None, :2], 1 + 0.5 * table["camera"][:, 2, None]
    centre = 0.5 + zoom[..., None] * (table["position"] - pan - 0.5)
    put["x"][:], put["y"][:] = centre[..., 0], centre[..., 1]
    put["radius"][:] = np.where(number < table["count"][:, None], zoom * table["radius"], 0)
    put["angle"][:], put["shape"][:], put["material"][:] = table["angle"], table["shape"], table["material"]
    put["id"][:] = number + 1
    put["frequency"][:] = 1.2 + 0.8 * table["texture"][..., 0]
    put["phase_u"][:], put["phase_v"][:] = 64 * table["texture"][..., 1], 64 * table["texture"][..., 2]
    state[..., OBJECT.index("r") : OBJECT.index("b") + 1] = table["colour"]
    state[..., OBJECT.index("dr") :] = p.texture
    if not p.occluder:
        return state
    bar = np.zeros((batch, 1, len(OBJECT)))
    u = table["occluder"]
    bar[..., :8] = np.stack((u[:, 0], u[:, 1], *np.broadcast_arrays(0.4, math.pi * u[:, 2], BAR, 0, 255, 0)), 1)[:, None]
    bar[..., 10:13] = 0.5 * table["background_colour"][:, None]
    return np.concatenate((bar, state), 1)


def scene_state(table: Factors) -> NDArray[np.float64]:
    """What `render.draw` needs to know of the backgrounds of a factor table: (B, fields)."""
    pan = table["camera"][:, :2]
    layout = table["background_layout"].copy()
    # The background is far away: it moves half as much as the objects.
    layout[:, 2:] += 0.5 * layout[:, :1] * pan
    family = 1 + table["background"][:, None]
    light = table["light"] + np.array([1.0, 0.0, 0.0])
    colours = table["background_colour"], table["background_amplitude"]
    state = np.concatenate((family, layout, *colours, light), 1)
    assert state.shape[1] == len(SCENE)
    return state
