"""Checkpoints: written under a temporary name, synced, renamed; checked by digest; the last good one always survives."""

import errno
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from nolabel.core import UserError

_NAME = re.compile(r"step-(\d{2})-(\d{9})-([0-9a-f]{16})(?:\.(\d+)of(\d+))?\.pt")


class _Digesting(io.RawIOBase):
    """A file that hashes what passes through it, so that a checkpoint is read once and written once."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest = file, hashlib.blake2b(digest_size=8)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return int(self.file.write(data))


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_of(folder: Path | None) -> Iterator[None]:
    """A disk that is full or cannot be written any more is told in one line, whatever was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise
        kept = Checkpoints(folder / "checkpoints").found() if folder else []
        more = f"; the last good checkpoint is {kept[-1].name}: 'nolabel resume {folder}' goes on there" if kept else ""
        raise UserError(f"cannot write to {folder or 'the disk'}: {error.strerror}; free some space{more}") from error


def write_atomic(path: Path, write: Callable[[Any], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it: readers see the old or the new file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """The run folder is this process's alone; gives what `launch` passes on to processes that share it.

    The system lets go when the last process that has it ends, however it ends. Where there are no locks nothing is held.
    Raises `UserError` if another training has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield None
        return
    path, given = folder / ".lock", os.environ.get(LOCK)
    if given is not None and path.exists():
        with suppress(OSError, ValueError):
            if os.path.samestat(os.fstat(int(given)), path.stat()):  # held for us by the process that launched us
                yield int(given)
                return
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --dir") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is being trained by another process; wait for it or stop it, or choose another --dir"
            ) from None
        except OSError:  # file systems without locks
            pass
        yield handle
    finally:
        os.close(handle)


LOCK = "NOLABEL_LOCK"
"""names the variable that tells a launched process which open file holds the lock of its run"""


class Checkpoints:
    """The checkpoints of one run, newest last. A file's name holds stage, step and the digest of its content.

    A sharded one is a file for each rank, `step-...-DIGEST.1of4.pt`; it counts once all of them are there.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def found(self) -> list[Path]:
        """Complete checkpoints in the order of their steps; the first file of those that have several."""
        return [path for path in self._files() if _part(path)[0] == 1 and len(self.parts(path)) == _part(path)[1]]

    def parts(self, path: Path) -> list[Path]:
        """The files of a checkpoint, in the order of the ranks."""
        own, count = _when(path), _part(path)[1]
        by_rank = {_part(p)[0]: p for p in self._files() if _when(p) == own and _part(p)[1] == count}
        return [by_rank[i] for i in sorted(by_rank | {_part(path)[0]: path})] if count > 1 else [path]

    def _files(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*.pt") if _NAME.fullmatch(p.name))

    def save(self, stage: int, step: int, state: dict[str, Any], part: int = 0, parts: int = 1) -> Path:
        """Write a checkpoint, or part `part` of one in `parts` files. Raises `UserError` if the disk does not take it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = f".{part + 1}of{parts}" if parts > 1 else ""
        temporary = self.folder / f".step{mark}.tmp"
        try:
            with open(temporary, "wb") as file:
                through = _Digesting(file)
                torch.save(state, through)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{stage:02d}-{step:09d}-{through.digest.hexdigest()}{mark}.pt"
            os.replace(temporary, path)
            sync_folder(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            temporary.unlink(missing_ok=True)
            kept = f"; the last good one is {self.found()[-1].name}" if self.found() else ""
            raise UserError(f"cannot write a checkpoint in {self.folder}: {_first_line(error)}{kept}") from error
        return path

    def prune(self, newest: Path) -> None:
        """Drop the oldest checkpoints beyond `keep`, never `newest`, and what a crash left unfinished before it."""
        now = _when(newest)
        others = [_when(p) for p in self.found() if _when(p) != now]
        doomed = set(others[: max(0, len(others) + 1 - self.keep)])
        doomed |= {_when(p) for p in self._files()} - set(others) - {now}
        for path in self._files():
            if _when(path) in doomed and _when(path)[:2] != now[:2]:
                path.unlink(missing_ok=True)

    def load(self, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any] | None:
        """The newest intact state, whole and on the CPU; damaged files are named through `tell` and passed over.

        None where there is no checkpoint at all; `UserError` where there are some and none is intact.
        """
        found = self.found()
        for first in reversed(found):
            states = []
            for path in self.parts(first):
                try:
                    with open(path, "rb") as file:
                        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
                    match = _NAME.fullmatch(path.name)
                    if match and digest == match[3]:
                        states.append(torch.load(path, map_location="cpu", weights_only=True))
                        continue
                    tell(f"{path} is damaged (its content does not match its digest); taking the one before")
                except Exception as error:
                    tell(f"{path} cannot be read ({_first_line(error)}); taking the one before")
                break
            else:
                return joined(states) if len(states) > 1 else states[0]  # type: ignore[no-any-return]
        if found:
            raise UserError(f"no checkpoint in {self.folder} is intact; start the run again with another --dir")
        return None


def joined(parts: Sequence[Any]) -> Any:
    """The whole state from those of all ranks, in which `{"shard": rows}` stands for a tensor; the rest is of rank 0."""
    first = parts[0]
    if isinstance(first, dict):
        if first.keys() == {"shard"}:
            return torch.cat([p["shard"] for p in parts])
        return {key: joined([p[key] for p in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(joined(entries) for entries in zip(*parts))
    return first


def _when(path: Path) -> tuple[int, int, int]:
    """Stage and step of a file, and in how many parts its checkpoint is."""
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1]), int(match[2]), _part(path)[1]


def _part(path: Path) -> tuple[int, int]:
    """Which part of how many a file is."""
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[4] or 1), int(match[5] or 1)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
