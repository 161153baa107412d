"""Arrays in .npz and .npy files. Never unpickled: object arrays are refused."""

import hashlib
import math
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nolabel.core import UserError
from nolabel.data import cache, points
from nolabel.data.audio import to_int16
from nolabel.data.columns import ArrayColumn, Column, Store
from nolabel.data.decode import to_uint8
from nolabel.data.files import Strings, file_identity
from nolabel.data.listing import Listing, split_of

_NAMES: dict[str, tuple[str, ...]] = {
    "image": ("image", "images", "img", "imgs", "x", "data", "pixels"),
    "video": ("video", "videos", "clip", "clips", "frames", "x", "data"),
    "audio": ("audio", "sound", "sounds", "wave", "waves", "waveform", "speech", "x", "data"),
    "points": (*points.NAMES, "clouds"),
    "text": ("text", "texts", "caption", "captions", "description", "descriptions", "sentence", "sentences"),
}
"""words in the names of arrays, by what they hold"""
_AXES = {"image": (3, 4), "video": (4, 5), "audio": (2,), "points": (3,), "text": (1,)}
_LABELS = ("label", "labels", "y", "target", "targets")
_CLASSES = ("class_names", "classes", "label_names")
_WHITE = {1.0: 2.0, 255.0: 320.0, 1023.0: 1023.0, 4095.0: 4095.0, 16383.0: 16383.0, 65535.0: 65535.0}
"""what can count as white, 1 or the most of 8 to 16 bits, and how far floats may reach over it, as after resampling"""
_LOUD = {2.0**15: 16, 2.0**23: 24, 2.0**31: 32}
"""what can count as the loudest of wide integers, and its bits"""
_RATES = {"audio": ("rate", "sample_rate", "sr"), "video": ("fps",)}


def many(file: Path) -> bool:
    """Whether a .npz or .npy file holds many samples rather than one cloud of points."""
    if file.suffix.lower() not in (".npz", ".npy"):
        return False
    loaded = _load(file)
    return max((a.ndim for a in (loaded.values() if isinstance(loaded, dict) else [loaded])), default=0) > 2


def at_rest(data: Any) -> Path:
    """The file in the cache that holds an array, or arrays by name, so that whoever goes on with a run finds them again.

    Names are those of `listings`: `{"image": x, "label": y, "test_image": ..., "test_label": ...}`. The file's name is made
    from what is in it, so the same arrays are written once.
    """
    named: dict[str, Any] = (
        {str(k): _array(v) for k, v in data.items()} if isinstance(data, Mapping) else {"": _array(data)}
    )
    digest = hashlib.sha256()
    for name, array in sorted(named.items()):
        if array.dtype.hasobject or array.size == 0:
            what = f"'{name}' is" if name else "the data are"
            raise UserError(f"{what} no array of numbers or texts but {array.dtype} of shape {array.shape}")
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.dtype.kind in "buif" else array.tobytes())
    path = cache.folder() / f"arrays-{digest.hexdigest()[:12]}{'.npz' if isinstance(data, Mapping) else '.npy'}"
    if not path.exists():
        write = partial(np.savez, **named) if isinstance(data, Mapping) else partial(np.save, arr=named[""])
        try:
            cache.keep(path, write)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; free space or set NOLABEL_CACHE"
            ) from None
    return path


def _array(value: Any) -> NDArray:
    """An array of what a program holds. Raises UserError where it has no shape of its own."""
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        return array if array.dtype != object else np.asarray(array.tolist())  # texts of a pandas column are objects
    except (TypeError, ValueError) as error:  # rows of several lengths, types that numpy does not have
        raise UserError(f"the data are no array: {' '.join(str(error).split())[:120]}") from None


def listings(files: Sequence[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of files: keys such as image, x_train, val_images, points; label, y_train, test_labels; class_names.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels, of numbers whose white is the least of 1,
    255, 1023, 4095, 16383 and 65535 that none exceeds (but for the overshoot of floats); of uint8 it is 255. Video is
    uint8 (N, T, H, W) or (N, T, H, W, C). Sound is (N, S) with its `rate`: floats -1..1; integers of 8 and 16 bits, the
    unsigned ones around their middle; int32, int64 and floats beyond 100 of the fewest of 16, 24 and 32 bits that hold
    all. Clouds are (N, P, 3), texts (N,) strings. A note says where a scale was guessed; it is that of the largest value
    of all splits. Of several files each is the split that its name says. Raises UserError where a wanted kind is
    missing, or labels do not match.
    """
    result: dict[str, Listing] = {}
    for file in files:
        found = _file(file, columns)
        named = split_of(file.stem) if len(files) > 1 else None
        if named and set(found) & {"", "train"}:
            result[named] = found.get("") or found["train"]
        else:
            result.update(found)
    _scale(result)
    return result


def _scale(found: dict[str, Listing]) -> None:
    """One white and one loudest for all arrays of one type, so that training and test samples look alike."""
    stores = [(listing, s) for listing in found.values() for s in listing.columns.values()]
    scaled = [(listing, s) for listing, s in stores if isinstance(s, ImageArray | SoundArray)]
    most: dict[Any, float] = {}
    for _, store in scaled:
        kind = type(store), store.array.dtype
        most[kind] = max(store.most, most.get(kind, 0.0))
    for listing, store in scaled:
        if note := store.scale(most[type(store), store.array.dtype]):
            listing.notes.append(note)


def _file(file: Path, columns: Sequence[str]) -> dict[str, Listing]:
    loaded = _load(file)
    if isinstance(loaded, np.ndarray):
        return {"train": Listing({columns[0]: _store(columns[0], loaded, file.name)}, file_identity([file]))}
    wanted = {word for column in columns for word in _NAMES[column]} | set(_LABELS)
    for key in [key for key, array in loaded.items() if array is None]:
        del loaded[key]
        if not loaded or key in _CLASSES or wanted & set(re.split(r"[^a-z]+", key.lower())):
            raise UserError(
                f"cannot read {file}: {key} holds Python objects, which are never unpickled; save plain arrays"
            )
    classes = next((tuple(map(str, loaded[key].tolist())) for key in _CLASSES if key in loaded), ())
    found: dict[str, dict[str, NDArray]] = {}
    for key, array in loaded.items():
        words = set(re.split(r"[^a-z]+", key.lower()))
        kinds = [c for c in columns if words & set(_NAMES[c]) and array.ndim in _AXES[c]]
        kinds += ["label"] if words & set(_LABELS) and key not in _CLASSES else []
        for kind in kinds if key not in _CLASSES else []:
            found.setdefault(split_of(key) or "", {}).setdefault(kind, array)
    first = columns[0]
    alone = [array for array in loaded.values() if array.ndim in _AXES[first] and array.dtype.kind in "buif"]
    if len(columns) == 1 and not any(first in arrays for arrays in found.values()) and len(alone) == 1:
        found.setdefault("", {})[first] = alone[0]
    result = {}
    for split, arrays in found.items():
        if not set(columns) <= set(arrays):
            continue
        stores: dict[str, Store | Column] = {c: _store(c, arrays[c], file.name) for c in columns}
        listing = Listing(stores, f"{file_identity([file])} {split}")
        for kind, names in _RATES.items():
            rate = next((float(loaded[name]) for name in names if name in loaded and loaded[name].size == 1), None)
            listing.rates |= {kind: rate} if rate else {}
        if "audio" in columns and "audio" not in listing.rates:
            listing.notes.append(f"{file.name} names no rate: its sound counts as 16,000 samples a second")
        if len({len(store) for store in stores.values()}) > 1:
            raise UserError(
                f"{file}: {', '.join(f'{len(s)} {c}' for c, s in stores.items())}; they must be equally many"
            )
        _label(listing, arrays.get("label"), classes, file)
        result[split] = listing
    if not result:
        what = "images" if tuple(columns) == ("image",) else " with ".join(columns)
        raise UserError(f"no {what} in {file}, only {', '.join(loaded)}; name the array '{first}' (and 'label')")
    return result


def _store(column: str, array: NDArray, name: str) -> Store:
    if column == "image":
        return ImageArray(array, name)
    if column == "text":
        return Strings([str(text) for text in array.tolist()], name)
    return SoundArray(column, array, name) if column == "audio" else Samples(column, array, name)


class Samples:
    """A store of arrays: one sample a row."""

    raw = True
    """samples are what the decoder takes, not files"""

    def __init__(self, column: str, array: NDArray, name: str) -> None:
        able = array.dtype == np.uint8 if column == "video" else array.dtype.kind in "iuf" and array.dtype != np.uint64
        if array.ndim not in _AXES[column] or not able or array.size == 0:
            raise UserError(f"{name}: an array of shape {array.shape} and type {array.dtype} holds no {column}")
        self.array, self.file = array, name
        self.shape = array.shape[1:]
        """of one sample"""

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """File and row."""
        return f"{self.file} row {row}"

    def read(self, row: int) -> NDArray:
        """One sample."""
        return self.array[row]


class SoundArray(Samples):
    """A store of sound: one recording a row."""

    def __init__(self, column: str, array: NDArray, name: str) -> None:
        super().__init__(column, array, name)
        wide = array.dtype.kind == "f" or (array.dtype.kind == "i" and array.dtype.itemsize > 2)
        self.most = max(map(abs, _reach(array))) if wide else 0.0
        """the loudest sample"""
        self.full: float | None = None
        """what counts as the loudest; one for all sounds, since a quiet one must stay quiet"""

    def scale(self, most: float) -> str:
        """Choose what counts as the loudest, where the largest number is `most`; a note where that is a guess."""
        if most <= (100 if self.array.dtype.kind == "f" else 0):
            return f"{self.file}: sound reaches {most:.3g}, what is beyond 1 is cut off" if most > 1.5 else ""
        self.full = next((full for full in _LOUD if most <= full), None)
        if self.full is None:
            raise UserError(f"{self.file}: sound goes up to {most:.3g}, more than 32 bits; scale it to -1 to 1")
        bits = _LOUD[self.full]
        usual = self.array.dtype.kind == "i" and bits == 8 * self.array.dtype.itemsize
        return (
            "" if usual else f"{self.file}: {self.array.dtype} sound reaches {most:g}: it counts as one of {bits} bits"
        )

    def read(self, row: int) -> NDArray[np.int16]:
        """One recording. Raises ValueError where it is not finite."""
        return to_int16(self.array[row], self.full)


def _load(file: Path) -> NDArray | dict[str, Any]:
    """An array, or arrays by name with None in the place of Python objects."""
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
            found = {key: _unless_objects(members, key) for key in members.files}
        return {key: array for key, array in found.items() if array is None or isinstance(array, np.ndarray)}
    except UserError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        objects = any(word in str(error) for word in ("pickle", "Python objects"))
        hint = "save plain arrays, not objects" if objects else "is it complete?"
        raise UserError(f"cannot read {file}: {' '.join(str(error).split())[:150]}; {hint}") from None


def _unless_objects(members: Any, key: str) -> Any:
    """A member of an archive, None for Python objects."""
    try:
        array = members[key]
    except ValueError as error:
        if "pickle" in str(error):
            return None
        raise
    return _texts(array) if isinstance(array, np.ndarray) else array


def _texts(array: NDArray) -> NDArray:
    """Bytes as the texts that they are."""
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array


def _reach(array: NDArray) -> tuple[float, float]:
    """The least and the most of the finite numbers, in parts: it may be a map of a huge file."""
    least, most = math.inf, -math.inf
    step = max(1, 2**24 // max(1, array[0].size))
    for first in range(0, len(array), step):
        part = array[first : first + step]
        if (finite := part[np.isfinite(part)]).size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    return (least, most) if least <= most else (0.0, 0.0)


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
    if len(label) != listing.rows:
        raise UserError(f"{file} has {listing.rows} samples and {len(label)} labels; they must be equally many")
    listing.label(label.tolist(), classes)


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
        least, self.most = _reach(array) if array.dtype != np.uint8 else (0.0, 255.0)
        """the brightest pixel"""
        if least < -0.01:
            raise UserError(f"{name}: pixels go down to {least:.3g}; undo the normalisation (0 to 1, or to 255)")

    def scale(self, most: float) -> str:
        """Choose what is white, where the largest number is `most`; a note where that is a guess."""
        if self.array.dtype == np.uint8:
            return ""
        floats = self.array.dtype.kind == "f"
        white = next((white for white, over in _WHITE.items() if most <= (over if floats else white)), None)
        if white is None:
            raise UserError(
                f"{self.file}: pixels go up to {most:.3g}, more than 16 bits; scale them to 0 to 1, or to 255"
            )
        self.white = white
        usual = {"b": (1.0,), "f": (1.0, 255.0)}.get(self.array.dtype.kind, (255.0,))
        usual = (65535.0,) if self.array.dtype == np.uint16 else usual
        if white in usual and most <= 1.01 * white:
            return ""
        return f"{self.file}: {self.array.dtype} pixels reach {most:g}: {white:g} counts as white"

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
