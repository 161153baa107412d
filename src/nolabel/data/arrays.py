"""Arrays in .npz and .npy files. Never unpickled: object arrays are refused."""

import math
import os
import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nolabel.core import UserError
from nolabel.data.columns import ArrayColumn
from nolabel.data.decode import to_uint8
from nolabel.data.files import file_identity
from nolabel.data.listing import Listing, number, split_of

_IMAGES = ("image", "images", "img", "imgs", "x", "data", "pixels")
_LABELS = ("label", "labels", "y", "target", "targets")
_NAMES = ("class_names", "classes", "label_names")


def listings(file: Path) -> dict[str, Listing]:
    """The splits of a file: keys such as image, x_train, val_images; label, y_train, test_labels; class_names.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels: uint8, 0..1 floats or wider integers.
    Raises UserError where there are none, or labels do not match them.
    """
    loaded = _load(file)
    if isinstance(loaded, np.ndarray):
        return {"train": Listing(ImageArray(loaded, file.name), file_identity([file]))}
    classes = next((tuple(map(str, loaded[key].tolist())) for key in _NAMES if key in loaded), ())
    found: dict[str, dict[str, NDArray]] = {}
    for key, array in loaded.items():
        words = re.split(r"[^a-z]+", key.lower())
        kind = "image" if set(words) & set(_IMAGES) else "label" if set(words) & set(_LABELS) else None
        if kind and key not in _NAMES:
            found.setdefault(split_of(key) or "", {}).setdefault(kind, array)
    alone = [array for array in loaded.values() if array.ndim in (3, 4)]
    if not any("image" in arrays for arrays in found.values()) and len(alone) == 1:
        found.setdefault("", {})["image"] = alone[0]
    result = {}
    for split, arrays in found.items():
        if "image" not in arrays:
            continue
        listing = Listing(ImageArray(arrays["image"], file.name), f"{file_identity([file])} {split}")
        _label(listing, arrays.get("label"), classes, file)
        result[split] = listing
    if not result:
        raise UserError(f"no images in {file}, only {', '.join(loaded)}; name the array 'image' (and 'label')")
    return result


def _load(file: Path) -> NDArray | dict[str, NDArray]:
    try:
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _memory():
            raise UserError(
                f"{file} unpacks to {size / 2**30:,.0f} GiB, more than the memory; save .npy or Parquet files"
            )
        with np.load(file, allow_pickle=False) as members:
            return {key: array for key in members.files if isinstance(array := members[key], np.ndarray)}
    except UserError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        hint = "save plain arrays, not objects" if "pickle" in str(error) else "is it complete?"
        raise UserError(f"cannot read {file}: {' '.join(str(error).split())[:150]}; {hint}") from None


def _memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _label(listing: Listing, label: NDArray | None, classes: tuple[str, ...], file: Path) -> None:
    if label is None:
        return
    label = label.reshape(len(label)) if label.size == len(label) else label
    if label.ndim != 1:
        listing.notes.append(f"labels of shape {label.shape} in {file.name} are not one class a sample: not used")
        return
    if len(label) != len(listing.images):
        raise UserError(f"{file} has {len(listing.images)} images and {len(label)} labels; they must be equally many")
    if label.dtype.kind == "f" and (label == np.rint(label)).all():
        label = label.astype(np.int64)
    listing.labels, listing.classes = number(label.tolist(), classes)


class ImageArray:
    """A store of raw pixels: one image a row of an array."""

    def __init__(self, array: NDArray, name: str) -> None:
        channels_last = array.ndim == 4 and array.shape[3] in (1, 3, 4)
        if array.ndim == 4 and not channels_last and array.shape[1] in (1, 3, 4):
            array = array.transpose(0, 2, 3, 1)
        elif not (channels_last or array.ndim == 3):
            raise UserError(f"{name}: an array of shape {array.shape} is not (N, H, W), (N, H, W, C) or (N, C, H, W)")
        if array.dtype.kind not in "buif" or len(array) == 0:
            raise UserError(f"{name}: {len(array)} images of type {array.dtype}; numbers are needed")
        self.array, self.file = array, name
        self.white = 255.0
        """the value that is white: one for all images, since a dark image must stay dark"""
        if array.dtype != np.uint8:
            least, most = float(np.nanmin(array)), float(np.nanmax(array))
            if least < -0.01:
                raise UserError(f"{name}: pixels go down to {least:.3g}; undo the normalisation (0 to 1, or to 255)")
            unit = array.dtype.kind in "bf" and most <= 2
            self.white = 1.0 if unit else 65535.0 if array.dtype == np.uint16 or most > 255 else 255.0

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """File and row."""
        return f"{self.file} row {row}"

    def read(self, row: int) -> NDArray:
        """Pixels (H, W) or (H, W, C) uint8."""
        return to_uint8(self.array[row], self.white)

    def column(self, size: int, channels: int) -> ArrayColumn | None:
        """The array itself as a column, where it already has the form asked for."""
        as_is = self.array.dtype == np.uint8 and self.array.shape[1:] == (size, size, channels)
        return ArrayColumn(self.array) if as_is else None
