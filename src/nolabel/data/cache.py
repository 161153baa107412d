"""Decode once: the columns of a split as memory-mapped arrays on disk.

An entry is a folder `<name>-<key>` with one file a column, such as `image.uint8` (N, S, S, C), and `meta.json`. It is
written under a temporary name, synced and renamed, so that an entry is whole or absent whatever is killed when; processes
that want the same entry at once wait for the one that builds it, and where the file system has no locks they build side
by side and the first wins.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nolabel.core import UserError
from nolabel.data.columns import ArrayColumn, Broken, Column

Progress = Callable[[str, float], None]
"""told what is being done and which share of it, 0 to 1"""

VERSION = 3
"""of decoding and layout; a new one leaves old entries unused"""
LIMIT = 16 * 2**30
"""bytes that a set may take without being asked for"""
CHEAP = 2**28
"""the same of columns that are as quickly made as read"""
_CHUNK, _ROWS = 64 * 2**20, 1024


@dataclass
class Cached:
    """Decoded samples of the rows `kept` of a split, and why the others are missing."""

    columns: dict[str, ArrayColumn]
    kept: Tensor
    skipped: dict[int, str]


def folder() -> Path:
    """Where caches lie: $NOLABEL_CACHE, or ~/.cache/nolabel."""
    return Path(os.environ.get("NOLABEL_CACHE") or Path.home() / ".cache" / "nolabel")


def fits(columns: Mapping[str, Column]) -> bool:
    """Whether columns may be cached unasked: at most 16 GiB and a quarter of the free disk."""
    where = folder()
    while not where.exists():
        where = where.parent
    count = len(next(iter(columns.values())))
    limit = CHEAP if all(getattr(column, "made", False) for column in columns.values()) else LIMIT
    return count * sum(map(sample_bytes, columns.values())) <= min(limit, shutil.disk_usage(where).free // 4)


def cached(name: str, identity: str, columns: Mapping[str, Column], progress: Progress) -> Cached:
    """The decoded samples of `columns`, from the cache or decoded into it now; those broken in one column are left out.

    `identity` must change whenever the samples do. Raises UserError where the cache cannot be written, or where no
    sample at all can be decoded.
    """
    made = [(column, len(c), c.shape, repr(getattr(c, "decoder", ""))) for column, c in columns.items()]
    key = hashlib.sha256(json.dumps([VERSION, identity, made]).encode()).hexdigest()[:20]
    entry = folder() / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')[:40]}-{key}"
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        if not (found := _read(entry)):
            with _alone(entry) as sure:
                if not (found := _read(entry)):
                    _build(entry, name, columns, progress, sweep=sure)
                    found = _read(entry)
    except OSError as error:
        what = f"cannot write the cache {entry}: {error.strerror or error}"
        raise UserError(f"{what}; free space, set NOLABEL_CACHE, or use cache=never") from None
    if not found:
        raise UserError(f"the cache {entry} is damaged and cannot be replaced; delete this folder")
    return found


def remembered(what: str, identity: str, make: Callable[[], Any]) -> Any:
    """What `make` found out about files, as JSON kept in the cache: it is asked once for each `identity`."""
    key = hashlib.sha256(f"{VERSION} {identity}".encode()).hexdigest()[:20]
    path = folder() / f"{what}-{key}.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    found = make()
    with suppress(OSError):  # only time is lost without it
        keep(path, lambda file: file.write(json.dumps(found).encode()))
    return found


def keep(path: Path, write: Callable[[Any], object]) -> None:
    """Let `write` fill a file so that it is whole or absent. Raises OSError where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, work = tempfile.mkstemp(prefix=f"{path.name}.tmp-", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            write(file)
        os.replace(work, path)
    except BaseException:
        os.unlink(work)
        raise


def _read(entry: Path) -> Cached | None:
    """The entry, or None where it is absent or not whole."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        skipped = {int(row): why for row, why in meta["skipped"]}
        columns = {}
        for column, dtype, shape in meta["columns"]:
            path, size = entry / f"{column}.{dtype}", np.dtype(dtype).itemsize * int(np.prod(shape))
            if path.stat().st_size != size:
                return None
            columns[column] = ArrayColumn(np.memmap(path, dtype, "r", shape=tuple(shape)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    good = np.ones(meta["rows"], bool)
    good[list(skipped)] = False
    return Cached(columns, torch.from_numpy(np.flatnonzero(good)), skipped)


def _build(entry: Path, name: str, columns: Mapping[str, Column], progress: Progress, sweep: bool) -> None:
    if sweep:  # nobody else builds this entry, so these are left over from a process that was killed
        for old in entry.parent.glob(f"{entry.name}.tmp-*"):
            shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{entry.name}.tmp-", dir=entry.parent))
    try:
        count = len(next(iter(columns.values())))
        step = max(1, min(_ROWS, _CHUNK // sum(map(sample_bytes, columns.values()))))
        skipped: dict[int, str] = {}
        with ExitStack() as stack:
            types = {column: str(_dtype(c)) for column, c in columns.items()}
            files = {column: stack.enter_context(open(work / f"{column}.{types[column]}", "wb")) for column in columns}
            for first in range(0, count, step):
                progress(f"decoding {name}", first / count)
                rows = torch.arange(first, min(first + step, count))
                parts = {column: _take(c, rows) for column, c in columns.items()}
                broken = {position: why for _, reasons in parts.values() for position, why in reasons.items()}
                skipped.update({first + position: why for position, why in broken.items()})
                for column, (batch, _) in parts.items():
                    good = np.delete(batch.numpy(), list(broken), axis=0) if broken else batch.numpy()
                    files[column].write(np.ascontiguousarray(good).data)
            if len(skipped) == count:
                raise UserError(f"none of the {count} samples of {name} can be decoded: {next(iter(skipped.values()))}")
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        shapes = [(column, types[column], (count - len(skipped), *c.shape)) for column, c in columns.items()]
        with open(work / "meta.json", "w") as text:
            json.dump({"version": VERSION, "rows": count, "columns": shapes, "skipped": sorted(skipped.items())}, text)
            text.flush()
            os.fsync(text.fileno())
        if entry.exists() and not _read(entry):
            shutil.rmtree(entry)  # damaged, e.g. half deleted
        with suppress(FileExistsError):  # another process was first: its entry is as good
            _rename(work, entry)
        progress(f"decoding {name}", 1.0)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _dtype(column: Column) -> np.dtype:
    return np.dtype(getattr(column, "dtype", np.uint8))


def sample_bytes(column: Column) -> int:
    """Of one sample."""
    return _dtype(column).itemsize * int(np.prod(column.shape))


def _take(column: Column, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
    try:
        return column.take(rows), {}
    except Broken as broken:
        return broken.batch, broken.reasons


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if target.exists():  # "directory not empty", under another errno on every system
            raise FileExistsError(target) from None
        raise
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)


@contextmanager
def _alone(entry: Path) -> Iterator[bool]:
    """Wait until no other process builds the entry; False where the system cannot tell."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with open(f"{entry}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            sure = True
        except OSError:
            sure = False
        yield sure  # closing the file, or the death of the process, unlocks it
