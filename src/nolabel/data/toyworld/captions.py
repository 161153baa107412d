"""Words for the pictures of the toy world: what is there, of what, how large, how bright, where, and what is not there.

A caption names the object in front with its shape and some of its attributes, in any order and by synonyms; it may go on
with a second object and how they lie, with the ground, or with what is absent. Whatever it says is true.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nolabel.data.toyworld.factors import BACKGROUNDS, MATERIALS, PROGRAMS, SHAPES, Factors, Floats

SHAPE_WORDS = {
    "disc": ("disc", "circle"), "square": ("square", "block"), "triangle": ("triangle", "wedge"), "star": ("star",),
    "cross": ("cross", "plus"), "ring": ("ring", "hoop"), "ell": ("ell", "corner"), "hexagon": ("hexagon",),
}  # fmt: skip
MATERIAL_WORDS = {
    "rubber": ("rubber",), "wood": ("wooden", "timber"), "cloth": ("cloth", "woven"), "stone": ("stone", "rock"),
    "steel": ("steel", "metal"), "cork": ("cork",),
}  # fmt: skip
GROUND_WORDS = {
    "stripes": "striped", "checker": "checked", "noise": "cloudy", "dots": "dotted", "gradient": "shaded"
}  # fmt: skip
VERBS = {
    "fall": ("falls", "drops"), "throw": ("flies", "leaps"), "roll": ("rolls", "slides"), "pendulum": ("swings", "hangs"),
    "orbit": ("orbits", "revolves"), "collide": ("bounces", "drifts"),
}  # fmt: skip
_STUFF = {"wooden": "wood", "timber": "wood", "woven": "cloth"}
"""how a material is called as a noun"""
_SIZES = (("small", "little"), ("big", "large"))
_LIGHTS = (("dark", "dim"), ("bright", "light"))
_PLACES = {
    (-1, 0): "on the left", (1, 0): "on the right", (0, -1): "at the top", (0, 1): "at the bottom", (0, 0): "in the middle"
}  # fmt: skip
LANES = 40

_SMALL_WORDS = """a an the there is no and of made to above below left right top bottom middle on at in ground picture photo
it wood . ,"""
VOCABULARY = tuple(
    sorted(
        {
            w
            for words in (*SHAPE_WORDS.values(), *MATERIAL_WORDS.values(), *VERBS.values(), *_SIZES, *_LIGHTS)
            for w in words
        }
        | {*GROUND_WORDS.values(), *_SMALL_WORDS.split()}
    )
)
"""every word that occurs, and those of prompts"""


def captions(table: Factors, u: Floats, middle: float, moving: bool = False) -> list[str]:
    """A caption for each row of a factor table, from uniforms u (B, LANES).

    middle   the radius above which things are big
    moving   with what the object in front does
    """
    return [_caption(table, row, iter(u[row].tolist()), middle, moving) for row in range(len(u))]


def _caption(table: Factors, row: int, u: object, middle: float, moving: bool) -> str:
    def flip(p: float) -> bool:
        return next(u) < p  # type: ignore[call-overload]

    def pick(words: Sequence[str]) -> str:
        return words[int(next(u) * len(words))]  # type: ignore[call-overload]

    def thing(k: int) -> str:
        shape = pick(SHAPE_WORDS[SHAPES[table["shape"][row, k]]])
        material = pick(MATERIAL_WORDS[MATERIALS[table["material"][row, k]]])
        bright = luminance(table["colour"][row, k]) > luminance(table["background_colour"][row])
        words = [pick(_SIZES[int(table["radius"][row, k] > middle)])] if flip(0.4) else []
        words += [pick(_LIGHTS[int(bright)])] if flip(0.4) else []
        said = flip(0.75)
        after = said and flip(0.25)
        words += [material] if said and not after else []
        if len(words) > 1 and flip(0.5):
            words.reverse()
        noun = " ".join([*words, shape])
        return f"{noun} made of {_STUFF.get(material, material)}" if after else noun

    first = article(thing(0))
    if moving:
        first += f" {pick(VERBS[PROGRAMS[table['program'][row]]])}"
    elif flip(0.35):
        first += f" {_PLACES[_place(table['position'][row, 0])]}"
    second = ""
    if table["count"][row] > 1 and flip(0.8):
        other = article(thing(1))
        if moving:
            second = f" and there is {other}"
        else:
            second = f" {_relation(table['position'][row, 0], table['position'][row, 1])} {other}"
            first = first if not any(first.endswith(place) for place in _PLACES.values()) else f"{first} and"
            second = second if not first.endswith("and") else f" {other}"
    text = f"{'there is ' if flip(0.3) and not moving else ''}{first}{second}"
    if flip(0.2):
        text += f" , the ground is {GROUND_WORDS[BACKGROUNDS[table['background'][row]]]}"
    elif flip(0.15):
        here = {SHAPES[table["shape"][row, k]] for k in range(table["count"][row])}
        absent = [name for name in SHAPES if name not in here]
        text += f" , there is no {pick(SHAPE_WORDS[pick(absent)])}"
    return text


def article(noun: str) -> str:
    """With a or an."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def luminance(rgb: NDArray) -> float:
    """Of a colour."""
    return float(rgb @ np.array([0.299, 0.587, 0.114]))


def _place(xy: NDArray) -> tuple[int, int]:
    """Where in the picture: the farther axis decides."""
    x, y = xy - 0.5
    if max(abs(x), abs(y)) < 0.1:
        return 0, 0
    return (int(np.sign(x)), 0) if abs(x) >= abs(y) else (0, int(np.sign(y)))


def _relation(a: NDArray, b: NDArray) -> str:
    """How a lies to b."""
    x, y = a - b
    if abs(x) >= abs(y):
        return "to the left of" if x < 0 else "to the right of"
    return "above" if y < 0 else "below"
