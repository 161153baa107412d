"""Tar shards in the WebDataset layout, read in any order: indexed once, then one positioned read a sample."""

import json
import os
import tarfile
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nolabel.core import UserError
from nolabel.data.cache import remembered
from nolabel.data.columns import Column, Store
from nolabel.data.decode import reason
from nolabel.data.files import SUFFIXES, file_identity
from nolabel.data.listing import Listing, as_label, split_of
from nolabel.data.split import Blocks

LOCAL_FROM = 8 * 2**30
"""bytes from which shards are read in a local order"""
_BLOCK, _WINDOW = 256, 64
_MOST_OPEN = 128
_NOTES = (".cls", ".json")
_LONGEST = 2**24
"""bytes of them; what is longer is no note of a sample"""
_TEXTS = ("caption", "text", "description", "sentence")
"""keys of .json that hold text"""

Member = tuple[int, int, str]
"""offset, size and suffix"""


@dataclass
class Index:
    """What lies where in one shard: parallel lists, one entry a sample."""

    names: list[str] = field(default_factory=list)
    parts: dict[str, list[Member | None]] = field(default_factory=dict)
    """the member of each kind, None where a sample has none"""
    labels: list[Any] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    """what `source` or `group` of .json says: the recording that samples are from"""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    """numbers of the classes that samples name"""


def listings(files: Sequence[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of some shards, by the words train, test, validation in their names, else by `split` of .json members.

    A sample is the members that share a name up to the first dot; its image is the .jpg before other kinds; its text
    lies in a .txt or in `caption` or `text` of .json; its sound, where it has none of its own, is that of its video; its
    label is `.cls` or `label` of `.json` (with `label_name` for the name of the class). Samples that lack a wanted part
    are left out. Raises UserError on damaged shards.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault((split_of(file.stem) or "") if len(files) > 1 else "", []).append(file)
    indices = {split: [_index(file) for file in files] for split, files in by_split.items()}
    named: dict[int, str] = {}
    for index in (index for split in indices.values() for index in split):
        named.update({value: name for name, value in index.classes.items()})
    # names of numbers with gaps are of no use, and the numbers may be anything
    classes = [named[i] for i in range(len(named))] if set(named) == set(range(len(named))) else []
    result: dict[str, Listing] = {}
    for split, found in indices.items():
        said = {s for index in found for s in index.splits} if list(by_split) == [""] else {None}
        said = said or {None}  # a shard without samples
        for part in sorted(said, key=str):
            name = split if part is None else split_of(part) or part
            result[name] = _listing(by_split[split], found, columns, classes, part if len(said) > 1 else None)
    return result


def _listing(
    files: list[Path], indices: list[Index], columns: Sequence[str], classes: list[str], split: str | None
) -> Listing:
    rows = [
        (shard, row)
        for shard, index in enumerate(indices)
        for row in range(len(index.names))
        if all(_member(index, row, column) for column in columns) and (split is None or index.splits[row] == split)
    ]
    if not rows:
        what = "images" if tuple(columns) == ("image",) else " with ".join(columns)
        hint = ", ".join(SUFFIXES[columns[0]][:3])
        raise UserError(f"no {what} in {files[0]} ({len(files)} shards); members must be {hint}, ...")
    stores: dict[str, Store | Column] = {
        column: (TarText if column == "text" else TarStore)(files, indices, rows, column) for column in columns
    }
    labels = [indices[shard].labels[row] for shard, row in rows]
    listing = Listing(stores, f"{file_identity(files)}{f' {split}' if split else ''}")
    listing.skipped = [(name, why) for index in indices for name, why in index.skipped]
    if any(label is not None for label in labels):
        listing.label(labels, classes)
    groups = [indices[shard].groups[row] for shard, row in rows]
    if any(groups):
        place = {name: i for i, name in enumerate(dict.fromkeys(g or f"row {i}" for i, g in enumerate(groups)))}
        listing.groups = torch.tensor([place[g or f"row {i}"] for i, g in enumerate(groups)])
    if sum(map(os.path.getsize, files)) > LOCAL_FROM:
        listing.blocks = Blocks(torch.arange(len(rows)) // _BLOCK, _WINDOW)
    return listing


def _member(index: Index, row: int, column: str) -> Member | None:
    kinds = ("audio", "video") if column == "audio" else (column,)
    return next((part for kind in kinds if (part := index.parts[kind][row])), None)


class TarStore:
    """The members of one kind of some samples (shard, row in its index)."""

    def __init__(
        self, files: Sequence[Path], indices: Sequence[Index], rows: Sequence[tuple[int, int]], column: str
    ) -> None:
        members = [_member(indices[shard], row, column) or (0, 0, "") for shard, row in rows]
        self.files = files
        self.names = [indices[shard].names[row] + member[2] for (shard, row), member in zip(rows, members)]
        self.offsets = np.array([member[0] for member in members], np.int64)
        self.sizes = np.array([member[1] for member in members], np.int64)
        self.shard = np.array([shard for shard, _ in rows])
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._handles)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Shard and member."""
        return f"{self.files[self.shard[row]].name}:{self.names[row]}"

    def read(self, row: int) -> Any:
        """The bytes of one member."""
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


class TarText(TarStore):
    """The texts of some samples."""

    def read(self, row: int) -> str:
        """The whole of a .txt, or the text of a .json."""
        text = super().read(row).decode("utf-8", "replace")
        return text if not self.names[row].endswith(".json") else _text(text) or ""


def _close(handles: dict[int, int]) -> None:
    for handle in handles.values():
        os.close(handle)


def _index(file: Path) -> Index:
    """The index of a shard, kept in the cache because a scan reads the header of every member."""
    return Index(**remembered("index", file_identity([file]), lambda: vars(_scan(file))))


def _scan(file: Path) -> Index:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    skipped: list[tuple[str, str]] = []
    end = os.path.getsize(file)
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # which tarfile would keep, for nothing
                if member.size < 0:
                    raise tarfile.ReadError(f"a member of {member.size} bytes")
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    skipped.append((f"{file.name}:{member.name}", "the shard ends inside this member"))
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
                sample[f".{suffix.lower()}"] = member.offset_data, member.size
            if any(_block(file, tar.offset)):  # tarfile takes a damaged header for the end
                skipped.append((file.name, f"the shard is damaged at byte {tar.offset}, after {len(samples)} samples"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; check its permissions") from None
    except Exception as error:  # besides its own errors: headers that nest without end, sizes that are no numbers
        if not samples:
            hint = "unpack compressed shards first" if file.suffix != ".tar" else "is it complete?"
            raise UserError(f"cannot read {file} as tar: {reason(error)}; {hint}") from None
        skipped.append((file.name, f"the shard is damaged after {len(samples)} samples: {reason(error)}"))
    kinds = [kind for kind in SUFFIXES if kind not in ("table", "pack")]
    index = Index(skipped=skipped, parts={kind: [] for kind in kinds})
    with open(file, "rb") as handle:
        for name, members in samples.items():
            # .jpg before .png: where there are both, the .png is as a rule a mask.
            found = {
                kind: next(
                    (s for s in (*SUFFIXES[kind], *members) if s in members and s.endswith(SUFFIXES[kind])), None
                )
                for kind in kinds
            }
            notes = {
                s: os.pread(handle.fileno(), members[s][1], members[s][0])
                for s in _NOTES
                if s in members and members[s][1] <= _LONGEST
            }
            meta = _meta(notes.get(".json", b""))
            if found["text"] is None and _text(notes.get(".json", b"")):
                found |= {"text": ".json"}
            if not any(found.values()):
                continue
            index.names.append(name)
            for kind, ending in found.items():
                index.parts[kind].append((*members[ending], ending) if ending else None)
            index.labels.append(_label(notes, meta, index.classes))
            index.splits.append(said if isinstance(said := meta.get("split"), str) else None)
            group = meta.get("source", meta.get("group"))
            index.groups.append(str(group) if group is not None else None)
    return index


def _block(file: Path, at: int) -> bytes:
    """The block of a tar at which its members end: zeros, or nothing, where it is whole."""
    with open(file, "rb") as handle:
        handle.seek(at)
        return handle.read(tarfile.BLOCKSIZE)


def _meta(blob: bytes | str) -> dict[str, Any]:
    """What a .json member holds, if it is an object."""
    with suppress(ValueError, RecursionError):
        meta = json.loads(blob)
        return meta if isinstance(meta, dict) else {}
    return {}


def _text(blob: bytes | str) -> str | None:
    """The text in a .json member, if any."""
    meta = _meta(blob)
    return next((meta[key] for key in _TEXTS if isinstance(meta.get(key), str)), None)


def _label(members: dict[str, bytes], meta: dict[str, Any], classes: dict[str, int]) -> int | str | None:
    """The label of a sample; fills in `classes` where it also names its class."""
    with suppress(ValueError):
        if ".cls" in members:
            return as_label(members[".cls"].decode().strip())
    label = meta.get("label")
    if not isinstance(label, int | str):
        return None
    if isinstance(label, int) and label >= 0 and isinstance(meta.get("label_name"), str):
        classes[meta["label_name"]] = label
    return label
