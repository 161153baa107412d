"""Combinations that are known to work: encoder, batch, length and the fields that differ from the paper. No logic.

One file per setting: `tiny` (two CPU cores), `cifar10` (ResNet-18 at 32 px on one GPU), `imagenet` (the papers).
Each holds one function per method, named like it, from the input size in pixels to a `Recipe`.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETTINGS = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_")))


@dataclass(frozen=True)
class Recipe:
    """What a setting changes for one method."""

    encoder: str
    batch: int
    epochs: float | None = None
    minutes: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """fields of the method that differ from the paper's"""


def find(setting: str, method: str, size: int) -> Recipe | None:
    """The recipe of a method in a setting at an input size, or None where the setting has none for it."""
    make = getattr(importlib.import_module(f"nolabel.recipes.{setting}"), method, None)
    return make(size) if make else None
