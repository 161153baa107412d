"""Tar shards in the WebDataset layout, read in any order: indexed once, then one positioned read a sample."""

import hashlib
import json
import os
import tarfile
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nolabel.core import UserError
from nolabel.data import cache
from nolabel.data.decode import SUFFIXES
from nolabel.data.files import file_identity
from nolabel.data.listing import Listing, number, split_of
from nolabel.data.split import Blocks

LOCAL_FROM = 8 * 2**30
"""bytes from which shards are read in a local order"""
_BLOCK, _WINDOW = 256, 64
_MOST_OPEN = 128


@dataclass
class Index:
    """Where the images of one shard lie: parallel lists, one entry a sample."""

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[Any]
    skipped: list[tuple[str, str]]
    classes: dict[str, int]
    """numbers of the classes that samples name"""


def listings(files: Sequence[Path]) -> dict[str, Listing]:
    """The splits of some shards, by the words train, test, validation in their names; all "train" without them.

    A sample is the members that share a name up to the first dot; its image is the .jpg before other kinds; its label
    is `.cls` or `label` of `.json` (with `label_name` for the name of the class). Raises UserError on damaged shards.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault((split_of(file.stem) or "") if len(files) > 1 else "", []).append(file)
    indices = {split: [_index(file) for file in files] for split, files in by_split.items()}
    named: dict[str, int] = {}
    for index in (index for split in indices.values() for index in split):
        named.update(index.classes)
    classes = [""] * (max(named.values(), default=-1) + 1)
    for name, value in named.items():
        classes[value] = name
    return {split: _listing(by_split[split], indices[split], classes) for split in by_split}


def _listing(files: list[Path], indices: list[Index], classes: list[str]) -> Listing:
    store = TarStore(files, indices)
    if not len(store):
        raise UserError(
            f"no images in {files[0]} ({len(files)} shards); members must be {', '.join(SUFFIXES[:3])}, ..."
        )
    labels = [label for index in indices for label in index.labels]
    listing = Listing(store, file_identity(files))
    listing.skipped = [entry for index in indices for entry in index.skipped]
    if any(label is not None for label in labels):
        listing.labels, listing.classes = number(labels, classes if all(classes) else ())
    if sum(map(os.path.getsize, files)) > LOCAL_FROM:
        listing.blocks = Blocks(torch.arange(len(store)) // _BLOCK, _WINDOW)
    return listing


class TarStore:
    """The images of some shards."""

    def __init__(self, files: Sequence[Path], indices: Sequence[Index]) -> None:
        self.files = files
        self.names = [name for index in indices for name in index.names]
        self.offsets = np.array([offset for index in indices for offset in index.offsets], np.int64)
        self.sizes = np.array([size for index in indices for size in index.sizes], np.int64)
        self.shard = np.repeat(np.arange(len(files)), [len(index.names) for index in indices])
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._handles)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Shard and member."""
        return f"{self.files[self.shard[row]].name}:{self.names[row]}"

    def read(self, row: int) -> bytes:
        """The bytes of one image."""
        shard, size, offset = int(self.shard[row]), int(self.sizes[row]), int(self.offsets[row])
        if len(self.files) <= _MOST_OPEN:
            return os.pread(self._handle(shard), size, offset)
        with open(self.files[shard], "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def _handle(self, shard: int) -> int:
        with self._lock:
            if shard not in self._handles:
                self._handles[shard] = os.open(self.files[shard], os.O_RDONLY)
            return self._handles[shard]


def _close(handles: dict[int, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def _index(file: Path) -> Index:
    """The index of a shard, kept in the cache because a scan reads the header of every member."""
    key = hashlib.sha256(f"{cache.VERSION} {file_identity([file])}".encode()).hexdigest()[:20]
    kept = cache.folder() / f"index-{key}.json"
    with suppress(OSError, ValueError, TypeError):
        return Index(**json.loads(kept.read_text()))
    index = _scan(file)
    with suppress(OSError):  # only time is lost without it
        cache.keep(kept, json.dumps(vars(index)))
    return index


def _scan(file: Path) -> Index:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    skipped: list[tuple[str, str]] = []
    end = os.path.getsize(file)
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # which tarfile would keep, for nothing
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    skipped.append((f"{file.name}:{member.name}", "the shard ends inside this member"))
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
                sample[f".{suffix.lower()}"] = member.offset_data, member.size
    except tarfile.ReadError as error:
        if not samples:
            hint = "unpack compressed shards first" if file.suffix != ".tar" else "is it complete?"
            raise UserError(f"cannot read {file} as tar: {error}; {hint}") from None
        skipped.append((file.name, f"the shard is damaged after {len(samples)} samples: {error}"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; check its permissions") from None
    index = Index([], [], [], [], skipped, {})
    with open(file, "rb") as handle:
        for name, members in samples.items():
            # .jpg before .png: where there are both, the .png is as a rule a mask.
            image = next((s for s in (*SUFFIXES, *members) if s in members and s.endswith(SUFFIXES)), None)
            if image is None:
                continue
            index.names.append(name + image)
            index.offsets.append(members[image][0])
            index.sizes.append(members[image][1])
            notes = {}
            for suffix in {".cls", ".json"} & set(members):
                offset, size = members[suffix]
                notes[suffix] = os.pread(handle.fileno(), size, offset)
            index.labels.append(_label(notes, index.classes))
    return index


def _label(members: dict[str, bytes], classes: dict[str, int]) -> int | str | None:
    """The label of a sample; fills in `classes` where it also names its class."""
    with suppress(ValueError):
        if ".cls" in members:
            text = members[".cls"].decode().strip()
            return int(text) if text.lstrip("-").isdigit() else text
        if ".json" in members:
            meta = json.loads(members[".json"])
            label = meta.get("label") if isinstance(meta, dict) else None
            if isinstance(label, int | str):
                if isinstance(label, int) and label >= 0 and isinstance(meta.get("label_name"), str):
                    classes[meta["label_name"]] = label
                return label
    return None
