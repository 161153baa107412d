"""Checkpoints: written under a temporary name, synced, renamed; checked by digest; the last good one always survives."""

import errno
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nolabel.core import UserError

_NAME = re.compile(r"step-(\d{2})-(\d{9})-([0-9a-f]{16})\.pt")


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
            f"cannot write {path}: {error.strerror or error}; free some space or choose another --dir"
        ) from error


class Checkpoints:
    """The checkpoints of one run, newest last. A file's name holds stage, step and the digest of its content."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def found(self) -> list[Path]:
        """Complete checkpoints in the order of their steps."""
        return sorted(p for p in self.folder.glob("step-*.pt") if _NAME.fullmatch(p.name))

    def save(self, stage: int, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint and drop the oldest beyond `keep`. Raises `UserError` if the disk does not take it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        temporary = self.folder / f".step-{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                through = _Digesting(file)
                torch.save(state, through)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{stage:02d}-{step:09d}-{through.digest.hexdigest()}.pt"
            os.replace(temporary, path)
            sync_folder(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            temporary.unlink(missing_ok=True)
            kept = f"; the last good one is {self.found()[-1].name}" if self.found() else ""
            raise UserError(f"cannot write a checkpoint in {self.folder}: {_first_line(error)}{kept}") from error
        here = [p for p in self.found() if p != path]
        for old in here[: max(0, len(here) + 1 - self.keep)]:
            old.unlink(missing_ok=True)
        return path

    def load(self, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any] | None:
        """The newest intact state, on the CPU; damaged files are named through `tell` and passed over.

        None where there is no checkpoint at all; `UserError` where there are some and none is intact.
        """
        found = self.found()
        for path in reversed(found):
            match = _NAME.fullmatch(path.name)
            try:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
                if match and digest == match[3]:
                    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
                tell(f"{path} is damaged (its content does not match its digest); taking the one before")
            except Exception as error:
                tell(f"{path} cannot be read ({_first_line(error)}); taking the one before")
        if found:
            raise UserError(f"no checkpoint in {self.folder} is intact; start the run again with another --dir")
        return None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
