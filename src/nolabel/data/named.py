"""The data sets of torchvision, by name."""

import difflib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nolabel.core import UserError
from nolabel.data import cache
from nolabel.data.arrays import ImageArray
from nolabel.data.decode import pixels_of
from nolabel.data.listing import Listing

_TRAIN, _TEST = ("train", "trainval"), ("test", "val")


def names() -> dict[str, type]:
    """The data sets of torchvision that can be made from root, download and perhaps train or split, by name."""
    from torchvision import datasets

    able = {}
    for name in datasets.__all__:
        kind = getattr(datasets, name)
        parameters = inspect.signature(kind).parameters
        needed = {p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if {"root", "download"} <= set(parameters) and needed <= {"root", "split"}:
            able[name.lower()] = kind
    return able


def folder() -> Path:
    """Where downloads lie: `torchvision` in the folder of the cache."""
    return cache.folder() / "torchvision"


def listings(name: str, split: str = "") -> dict[str, Listing]:
    """The splits of a data set, downloaded at first use; `split` names another one to train on ("unlabeled").

    Raises UserError where it cannot be downloaded.
    """
    kind = names()[name]
    parameters = inspect.signature(kind).parameters
    if "train" in parameters:
        return {part: _listing(name, kind, {"train": part == "train"}) for part in ("train", "test")}
    if "split" not in parameters:
        return {"train": _listing(name, kind, {})}
    result = {}
    for part, candidates in (("train", (split,) if split else _TRAIN), ("test", _TEST)):
        for candidate in candidates:
            try:
                result[part] = _listing(name, kind, {"split": candidate})
                break
            except ValueError:  # what torchvision raises for a split that the set does not have
                continue
    if "train" not in result:
        raise UserError(f"{name} has no split {split or 'train'!r}; see torchvision's page of {kind.__name__}")
    return result


def _listing(name: str, kind: type, options: dict[str, Any]) -> Listing:
    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        data = kind(root=str(root), download=True, **options)
    except (OSError, RuntimeError, ImportError) as error:
        short = " ".join(str(error).split())[:150]
        raise UserError(f"cannot get {name} into {root}: {short}; or give a folder with the images instead") from None
    labels = next((getattr(data, key) for key in ("targets", "labels", "_labels", "y") if hasattr(data, key)), None)
    pixels = _pixels(data)
    store = Samples(data, name) if pixels is None else ImageArray(pixels, name)
    listing = Listing({"image": store}, f"torchvision {name} {options} {root.resolve()} {len(data)}")
    if labels is not None and len(labels) == len(data):
        listing.label([int(v) if np.ndim(v) == 0 else None for v in labels], getattr(data, "classes", ()))
    return listing


def _pixels(data: Any) -> NDArray | None:
    """All images as one array, where the data set holds them so."""
    array = getattr(data, "data", None)
    array = np.asarray(array) if array is not None and not isinstance(array, list) else None
    return array if array is not None and array.ndim in (3, 4) and array.dtype == np.uint8 else None


class Samples:
    """The images of a map-style data set, one a row."""

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.title = data, name

    def __len__(self) -> int:
        return len(self.data)

    def name(self, row: int) -> str:
        """Name and row."""
        return f"{self.title} row {row}"

    def read(self, row: int) -> NDArray:
        """Pixels (H, W, 3)."""
        return pixels_of(self.data[row][0], 3)


def nearest(name: str, others: tuple[str, ...] = ()) -> str:
    """A hint at the known name that is most like `name`, or at where to find them all."""
    close = difflib.get_close_matches(name.lower(), (*names(), *others), 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else "give a folder, Parquet, tar or .npz file, or a torchvision name"
