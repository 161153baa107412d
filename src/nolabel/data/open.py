"""Open a data set by name, path or pattern, whatever its format."""

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.data import arrays, folder, hub, named, parquet, shards, table, toy
from nolabel.data.cache import Progress, cached, fits, sample_bytes
from nolabel.data.columns import ArrayColumn, Column, Store
from nolabel.data.files import KIND, Walk, expand, walk
from nolabel.data.form import STORED, Form
from nolabel.data.holdout import hold_out
from nolabel.data.listing import Listing, for_training, split_of, train_and_test
from nolabel.data.settle import cut_up, decoded, settle
from nolabel.data.split import Data, Split, printable


def open_data(
    spec: str | os.PathLike[str],
    columns: Sequence[str] = ("image",),
    *,
    cache: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
    test_fraction: float = 0.1,
    **form: Any,
) -> Data:
    """Open a data set with the columns asked for; labels, if any, are there in any case.

    spec: "toyworld[:easy|std|hard|upright|busy|textured][:...]", see `toy`; a folder of files of the kind asked for, or such
        a file; Parquet files or a folder of them; WebDataset tar shards; .npz or .npy; .jsonl, .csv and .tsv tables; .txt;
        a pattern such as "shards-{000..010}.tar"; a torchvision name ("cifar10", "stl10:unlabeled"); or "hf:owner/name". An
        existing path wins over a name, and in a folder loose files win over packs, unless the packs hold ten times as many
        samples as a few files beside them.
    columns: of image, video, audio, points, text; rows hold what belongs together, e.g. a clip and its sound. The toy
        world (see `toy`) also has `segmentation`: what a pixel shows, the part of a point, the phone of a moment; and the
        `depth` of images.
    cache: "auto" decodes once into memory-mapped arrays where they fit (16 GiB, a quarter of the free disk), "always"
        in any case, "never" decodes at every use.
    workers: decoding threads. progress: called with (what, share from 0 to 1).
    test_fraction: share of the samples held out as "test" where the set has no such split and there are labels or
        texts; 0 for none.
    form: fields of `Form` that say how samples are stored, e.g. size=64, frames=16.

    Long recordings and documents become several rows. Samples that cannot be decoded are left out and named in
    `Split.skipped`. Raises UserError where nothing can be read.
    """
    if cache not in ("auto", "always", "never"):
        raise UserError(f"cache={cache!r}: cache is auto, always or never")
    wanted = tuple(name for name in columns if name != "label")
    if unknown := [name for name in wanted if name not in (*STORED, *_MADE)]:
        raise UserError(f"there is no column '{unknown[0]}' (there are: {', '.join(STORED)})")
    if unknown := [name for name in form if name not in {field.name for field in fields(Form)}]:
        raise UserError(f"there is no form '{unknown[0]}'{nearest(unknown[0], [field.name for field in fields(Form)])}")
    if not 0 <= test_fraction < 1:
        raise UserError(f"test_fraction={test_fraction}: it is at least 0 and less than 1")
    asked = Form(**form)
    spec = os.fspath(spec)
    found = train_and_test(find(spec, wanted, asked))
    name = Path(spec).name if Path(spec).exists() else spec
    if not found["train"].rows:
        raise UserError(f"{printable(name)} holds no {_what(wanted)} to train on; check the path")
    data = Data(name, {}, list(dict.fromkeys(note for listing in found.values() for note in listing.notes)))
    data.form, data.tokenizer = settle(asked, found["train"], wanted)
    rates = {"video": data.form.fps, "audio": data.form.sample_rate}
    data.rates = {name: float(rate) for name, rate in rates.items() if name in wanted and rate}
    for name, listing in found.items():
        title = f"{printable(Path(spec).name)} {name}"
        listing = cut_up(listing, data.form, data.tokenizer, wanted)
        ready = {c: decoded(c, listing.columns[c], data.form, data.tokenizer, workers) for c in wanted}
        if huge := [c for c in wanted if sample_bytes(ready[c]) > _LARGEST]:
            raise UserError(
                f"one {huge[0]} of shape {ready[huge[0]].shape} is larger than 2 GiB; ask for a smaller form"
            )
        data.splits[name] = _split(name, listing, ready, title, cache, progress or _quiet)
        if name == "train" and "test" not in found:
            if listing.labels is not None:
                hold_out(data, listing.labels, test_fraction, listing.groups)
            elif "text" in wanted:  # words are their own labels, as are the pictures that go with them
                one = listing.groups is None or bool((listing.groups == listing.groups[0]).all())
                hold_out(data, torch.zeros(listing.rows), test_fraction, None if one else listing.groups)
    return data


def _quiet(what: str, share: float) -> None:
    pass


def find(spec: str, columns: Sequence[str] = ("image",), form: Form | None = None) -> dict[str, Listing]:
    """The splits of a data set as they are listed by its format. Raises UserError where there is none."""
    if (made := [name for name in _MADE if name in columns]) and not spec.lower().startswith("toyworld"):
        raise UserError(f"{printable(spec)} has no {' and no '.join(made)}; the toy world has")
    if not spec.strip():  # an unset variable of a shell, which a path would take for this folder
        raise UserError("--data is empty; name a folder, a file or a data set, . for this folder")
    path = Path(os.path.expanduser(spec))
    if os.path.exists(path):
        return _of_folder(path, columns) if path.is_dir() else _of_files([path], columns)
    if glob.has_magic(spec) or "{" in spec:
        return _of_files(expand(spec), columns)
    name, _, option = spec.partition(":")
    if name == "hf":
        return hub.listings(option, columns)
    if name.lower() == "toyworld":
        return toy.listings(option, columns, form or Form())
    if "/" in spec or os.sep in spec or path.suffix in (*_PACKS, *KIND) or spec in ("", ".", ".."):
        parent = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
        raise UserError(f"no such file or folder: {printable(spec)} (of it, {parent} exists); check the path")
    if name.lower() in named.names():
        if tuple(columns) != ("image",):
            raise UserError(f"the data sets of torchvision hold images, not {' and '.join(columns)}")
        return named.listings(name.lower(), option)
    raise UserError(f"unknown data {printable(spec)!r}: {named.nearest(name, ('toyworld',))}")


_LARGEST = 2**31
"""bytes of one stored sample"""
_FEW, _MANY = 100, 10
"""loose files at most, and samples of packs for each at least, where the packs are the data"""
_MADE = ("depth", "segmentation")
"""columns that only the toy world has"""

_PACKS: dict[str, Callable[[list[Path], Sequence[str]], dict[str, Listing]]] = {
    ".parquet": parquet.listings,
    ".tar": shards.listings,
    ".npz": arrays.listings,
    ".npy": arrays.listings,
    ".jsonl": table.listings,
    ".csv": table.listings,
    ".tsv": table.listings,
}


def _of_files(files: list[Path], columns: Sequence[str]) -> dict[str, Listing]:
    if len(files) == 1 and files[0].is_dir():
        return _of_folder(files[0], columns)
    kinds = {file.suffix.lower() for file in files}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in _PACKS and not _clouds(files, columns):
        if not os.access(files[0], os.R_OK):
            raise UserError(f"cannot read {files[0]}; check its permissions")
        return _PACKS[kind](files, columns)
    if {KIND.get(kind) for kind in kinds} <= set(STORED):
        return _of_media(files, columns)
    what = f"{printable(str(files[0]))} and {len(files) - 1} others" if len(files) > 1 else printable(str(files[0]))
    raise UserError(f"cannot tell the format of {what}; give a folder of files, or one of {', '.join(_PACKS)}")


def _of_media(files: list[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """Files named one by one; their split by the words train, test, validation in their names."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault((split_of(file.stem) or "") if len(files) > 1 else "", []).append(file.absolute())
    result = {}
    for split, paths in by_split.items():
        root = Path(os.path.commonpath([path.parent for path in paths]))
        found = Walk()
        for path in paths:
            found.files.setdefault(KIND[path.suffix.lower()], []).append(str(path.relative_to(root)))
        listed = folder.listings(root, found, columns)
        if listed is None:
            raise UserError(f"no {_what(columns)} in {printable(str(files[0]))}; check the path")
        result[split] = next(iter(listed.values()))
    return result


def _of_folder(path: Path, columns: Sequence[str]) -> dict[str, Listing]:
    """Loose files before packs, but for a few beside packs that hold many more samples: the pictures of a README."""
    found = walk(path)
    packs: dict[str, list[Path]] = {}
    for kind in ("pack", "table", "points"):
        for name in found.files.get(kind, ()):
            packs.setdefault(Path(name).suffix.lower(), []).append(path / name)
    order = [".parquet", ".tar"]
    order += [".npz"] if "points" in columns else []
    order += [".jsonl", ".csv", ".tsv"] if "text" in columns else []
    order = [suffix for suffix in order if suffix in packs]
    notes: list[str] = []
    loose = sum(len(found.files.get(kind, ())) for kind in {*columns, *(["video"] if "audio" in columns else [])})
    if 0 < loose <= _FEW:
        for suffix in order if tuple(columns) == ("text",) else [s for s in order if s in (".parquet", ".tar")]:
            try:
                listed = _PACKS[suffix](packs[suffix], columns)
            except UserError as error:
                notes.append(f"{suffix} files are not used: {error}")
                continue
            if sum(listing.rows for listing in listed.values()) >= _MANY * loose:
                listed[for_training(listed)].notes.append(f"{loose} files beside the {suffix} files are not used")
                return listed
    clouds = [path / name for name in found.files.get("points", ())]
    if "points" not in columns or _clouds(clouds, columns):
        listing = folder.listings(path, found, columns)
        if listing is not None:
            listing[for_training(listing)].notes += notes
            return listing
    if order:
        return _PACKS[order[0]](packs[order[0]], columns)
    what = f"{_what(columns)}, Parquet or tar files"
    raise UserError(f"no {what} in {printable(str(path))}, which holds {found}; check the path")


def _what(columns: Sequence[str]) -> str:
    return "images" if tuple(columns) == ("image",) else " with ".join(columns)


def _clouds(files: list[Path], columns: Sequence[str]) -> bool:
    """Whether files hold one cloud each."""
    return "points" in columns and bool(files) and not arrays.many(files[0])


def _split(
    name: str, listing: Listing, columns: dict[str, Column], title: str, cache: str, progress: Progress
) -> Split:
    """The split, cached where it may be."""
    split = Split(name, {}, listing.classes, [(printable(what), why) for what, why in listing.skipped], listing.blocks)
    split.names = next((store.name for store in listing.columns.values() if isinstance(store, Store)), None)
    plain = all(isinstance(column, ArrayColumn) for column in columns.values())
    if not plain and (cache == "always" or (cache == "auto" and fits(columns))):
        made = cached(title, listing.identity, columns, progress)
        split.skipped += [(split.name_of(row), why) for row, why in made.skipped.items()]
        columns, split.origin, split.blocks = dict(made.columns), made.kept, None
    split.columns.update(columns)
    if listing.labels is not None:
        labels = listing.labels if split.origin is None else listing.labels[split.origin]
        split.columns["label"] = ArrayColumn(labels)
    return split
