"""Open a data set by name, path or pattern, whatever its format."""

import glob
import os
from collections.abc import Callable
from pathlib import Path

from nolabel.core import UserError
from nolabel.data import arrays, folder, hub, named, parquet, shards, toy
from nolabel.data.cache import Progress, cached, fits
from nolabel.data.columns import ArrayColumn, Column, EncodedColumn, Store
from nolabel.data.files import expand, walk
from nolabel.data.holdout import hold_out
from nolabel.data.listing import Listing, train_and_test
from nolabel.data.size import probe, stored_size
from nolabel.data.split import Data, Split, printable


def open_data(
    spec: str | os.PathLike[str],
    *,
    size: int | None = None,
    cache: str = "auto",
    channels: int = 3,
    workers: int | None = None,
    progress: Progress | None = None,
    test_fraction: float = 0.1,
) -> Data:
    """Open a data set of images; labels, if any, are for evaluation.

    spec: "toyworld[:easy|std|hard]"; a folder of images; Parquet files or a folder of them; WebDataset tar shards; .npz
        or .npy; a pattern such as "shards-{000..010}.tar"; a torchvision name ("cifar10", "stl10:unlabeled"); or
        "hf:owner/name". An existing path wins over a name.
    size: pixels that the encoder will see; images are kept at this size or somewhat larger (see `size.stored_size`).
    cache: "auto" decodes once into a memory-mapped array where that fits (16 GiB, a quarter of the free disk),
        "always" in any case, "never" decodes at every use.
    channels: 3 for RGB or 1 for grey. workers: decoding threads. progress: called with (what, share from 0 to 1).
    test_fraction: share of the labelled images held out as "test" where the set has no such split; 0 for none.

    Images that cannot be decoded are left out and named in `Split.skipped`. Raises UserError where nothing can be read.
    """
    if cache not in ("auto", "always", "never") or channels not in (1, 3):
        raise UserError(f"cache={cache!r}, channels={channels}: cache is auto, always or never, and channels 3 or 1")
    spec = os.fspath(spec)
    found = train_and_test(find(spec, size, channels))
    name = Path(spec).name if Path(spec).exists() else spec
    data = Data(name, {}, [note for listing in found.values() for note in listing.notes])
    side = _side(found["train"], size)
    for name, listing in found.items():
        title = f"{printable(Path(spec).name)} {name}"
        data.splits[name] = _split(name, listing, title, side, channels, cache, workers, progress or _quiet)
        if name == "train" and "test" not in found and listing.labels is not None:
            hold_out(data, listing.labels, test_fraction)
    return data


def _quiet(what: str, share: float) -> None:
    pass


def find(spec: str, size: int | None, channels: int) -> dict[str, Listing]:
    """The splits of a data set as they are listed by its format. Raises UserError where there is none."""
    path = Path(os.path.expanduser(spec))
    if os.path.exists(path):
        return _of_folder(path) if path.is_dir() else _of_files([path])
    if glob.has_magic(spec) or "{" in spec:
        return _of_files(expand(spec))
    name, _, option = spec.partition(":")
    if name == "hf":
        return hub.listings(option)
    if name.lower() == "toyworld":
        return toy.listings(option or "easy", size, channels)
    if "/" in spec or os.sep in spec or path.suffix in _FILES or spec in ("", ".", ".."):
        parent = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
        raise UserError(f"no such file or folder: {printable(spec)} (of it, {parent} exists); check the path")
    if name.lower() in named.names():
        return named.listings(name.lower(), option)
    raise UserError(f"unknown data {printable(spec)!r}: {named.nearest(name, ('toyworld',))}")


_FILES: dict[str, Callable[[list[Path]], dict[str, Listing]]] = {
    ".parquet": parquet.listings,
    ".tar": shards.listings,
    ".npz": lambda files: arrays.listings(files[0]),
    ".npy": lambda files: arrays.listings(files[0]),
}


def _of_files(files: list[Path]) -> dict[str, Listing]:
    if len(files) == 1 and files[0].is_dir():
        return _of_folder(files[0])
    kinds = {file.suffix.lower() for file in files}
    if len(kinds) == 1 and (kind := kinds.pop()) in _FILES and (len(files) == 1 or kind in (".parquet", ".tar")):
        if not os.access(files[0], os.R_OK):
            raise UserError(f"cannot read {files[0]}; check its permissions")
        return _FILES[kind](files)
    what = f"{printable(str(files[0]))} and {len(files) - 1} others" if len(files) > 1 else printable(str(files[0]))
    raise UserError(f"cannot tell the format of {what}; give a folder of images, or one of {', '.join(_FILES)}")


def _of_folder(path: Path) -> dict[str, Listing]:
    found = walk(path)
    if found.images:
        return folder.listings(path, found)
    for kind, paths in found.others.items():
        return _FILES[kind]([path / name for name in paths])
    there = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(4)) or "nothing"
    raise UserError(f"no images, Parquet or tar files in {printable(str(path))}, which holds {there}; check the path")


def _side(listing: Listing, size: int | None) -> int:
    """The side at which the images are kept: that of the training images for all splits."""
    images = listing.images
    return stored_size(probe(images), size) if isinstance(images, Store) else images.shape[0]


def _split(
    name: str,
    listing: Listing,
    title: str,
    side: int,
    channels: int,
    cache: str,
    workers: int | None,
    progress: Progress,
) -> Split:
    """The split, cached where it may be."""
    images = listing.images
    split = Split(name, {}, listing.classes, [(printable(what), why) for what, why in listing.skipped], listing.blocks)
    split.names = images.name if isinstance(images, Store) else None
    column: Column = EncodedColumn(images, side, channels, workers) if isinstance(images, Store) else images
    if isinstance(images, arrays.ImageArray) and (ready := images.column(side, channels)):
        column = ready
    elif cache == "always" or (cache == "auto" and fits(column)):
        made = cached(title, listing.identity, column, progress)
        split.skipped += [(split.name_of(row), why) for row, why in made.skipped.items()]
        column, split.origin, split.blocks = made.images, made.kept, None
    split.columns["image"] = column
    if listing.labels is not None:
        labels = listing.labels if split.origin is None else listing.labels[split.origin]
        split.columns["label"] = ArrayColumn(labels)
    return split
