"""Combinations that are known to work: encoder, batch, length and the fields that differ from the paper. No logic.

One folder per setting: `tiny` (two CPU cores), `cifar10` (ResNet-18 at 32 px on one GPU), `imagenet` (the papers); in
it one file per family of methods with one function per method, named like it, from the size of the input (pixels of
images and video) to a `Recipe`.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nolabel import methods

SETTINGS = tuple(sorted(p.name for p in Path(__file__).parent.iterdir() if (p / "__init__.py").exists()))


@dataclass(frozen=True)
class Recipe:
    """What a setting changes for one method."""

    encoder: str | dict[str, str]
    """the name of an encoder, or one for each parameter of the method's `build`"""
    batch: int
    epochs: float | None = None
    minutes: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """fields of the method that differ from the paper's"""
    toyworld: str = ""
    """what follows the name of the toy world where the user names it alone, e.g. speech"""
    form: dict[str, Any] = field(default_factory=dict)
    """fields of `data.Form` that say how samples are stored, where it matters: frames, fps, sample_rate, seconds, ..."""


def find(setting: str, method: str, size: int) -> Recipe | None:
    """The recipe of a method in a setting at an input size, or None where the setting has none for it."""
    family = methods.describe(method).family
    if not (Path(__file__).parent / setting / f"{family}.py").exists():
        return None
    make = getattr(importlib.import_module(f"nolabel.recipes.{setting}.{family}"), method, None)
    return make(size) if make else None
