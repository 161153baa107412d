"""Files on disk: walking huge folders, expanding patterns, noticing changes, reading one sample."""

import glob
import hashlib
import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nolabel.core import UserError
from nolabel.data import decode

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": decode.SUFFIXES,
    "video": (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".au", ".m4a", ".aac"),
    "points": (".ply", ".off", ".npz", ".npy"),
    "text": (".txt",),
    "table": (".csv", ".tsv", ".jsonl"),
    "pack": (".parquet", ".tar"),
}
"""of names, by what the files hold"""
KIND = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}

_ALL_CHECKED = 50_000
_SAMPLE = 4_096


@dataclass
class Walk:
    """What lies below a folder, as paths relative to it."""

    files: dict[str, list[str]] = field(default_factory=dict)
    """by what they hold, see `SUFFIXES`"""
    others: Counter[str] = field(default_factory=Counter)
    """how many files of other suffixes there are"""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """(folder, reason)"""

    def __str__(self) -> str:
        """What there is, for messages: "3 .mp4, 1 .md"."""
        found = self.others.copy()
        found.update(os.path.splitext(name)[1].lower() for names in self.files.values() for name in names)
        return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(4)) or "nothing"


def walk(root: Path) -> Walk:
    """List a folder of any depth with one system call a folder, so that a million files take seconds.

    Symbolic links are followed, each folder is entered once (so a loop ends), names that begin with a dot are left out.
    Raises UserError where `root` itself cannot be listed.
    """
    found, seen = Walk(), set()
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:
        inside = folders.pop() if folders else links.pop()
        try:
            status = os.stat(root / inside)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if not inside:
                raise UserError(f"cannot read the folder {root}: {error.strerror}; check its permissions") from None
            found.unreadable.append((inside, f"cannot be listed: {error.strerror}"))
            continue
        prefix = f"{inside}/" if inside else ""
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            suffix = os.path.splitext(name)[1].lower()
            if entry.is_dir(follow_symlinks=False):
                folders.append(prefix + name)
            elif suffix in KIND and not _leads_to_folder(entry):
                found.files.setdefault(KIND[suffix], []).append(prefix + name)
            elif _leads_to_folder(entry):
                links.append(prefix + name)  # after all real folders, so that these keep their own names
            else:
                found.others[suffix or "without suffix"] += 1
    for paths in found.files.values():
        paths.sort()
    return found


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to a folder; one that leads in a circle is not, and is told as a file that cannot be read."""
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:
        return False


def expand(pattern: str) -> list[Path]:
    """Files that match a pattern with * ? [] and braces: "shards-{000..010}.tar", "{photo,sketch}.parquet".

    Raises UserError if any of the alternatives matches nothing.
    """
    pattern = os.path.expanduser(pattern)
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if i % 2 == 0 else _alternatives(part) for i, part in enumerate(parts)]
    paths: list[Path] = []
    for name in map("".join, itertools.product(*choices)):
        matches = sorted(glob.glob(name)) if glob.has_magic(name) else [name] * os.path.exists(name)
        if not matches:
            raise UserError(f"no file matches {name!r} (from {pattern!r}); check folder and pattern")
        paths += map(Path, matches)
    return paths


def _alternatives(braces: str) -> list[str]:
    if match := re.fullmatch(r"(\d+)\.\.(\d+)", braces):
        first, last = match.groups()
        return [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return braces.split(",")


def identity(root: Path, names: Sequence[str]) -> str:
    """A hash that changes when files are added, renamed or rewritten.

    Sizes and times of all files count up to 50,000, and of 4,096 evenly spread ones beyond.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root)))
    digest.update(b"\0".join(map(os.fsencode, names)))
    every = 1 if len(names) <= _ALL_CHECKED else len(names) // _SAMPLE
    for name in names[::every]:
        try:
            status = os.stat(root / name)
        except (OSError, ValueError):  # a dangling link, or no name of a file: skipped later, with its name
            continue
        digest.update(b"%d %d;" % (status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def file_identity(paths: Iterable[Path]) -> str:
    """The same for a few files anywhere."""
    return identity(Path("/"), [os.path.realpath(path) for path in paths])


class FileStore:
    """One sample a file."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = os.fspath(root), names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """The path below the root."""
        return self.names[row]

    def read(self, row: int) -> bytes:
        """The whole file."""
        # Not blocking: a named pipe called x.jpg must not hang the run.
        handle = os.open(f"{self.root}/{self.names[row]}", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ValueError("not a regular file")
            return file.readall()


class PathStore(FileStore):
    """One recording a file, opened by its decoder: it may be too large to be read whole."""

    def read(self, row: int) -> str:  # type: ignore[override]
        """The path."""
        path = f"{self.root}/{self.names[row]}"
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("not a regular file")
        return path


class TextStore(FileStore):
    """One text a file, UTF-8."""

    def read(self, row: int) -> str:  # type: ignore[override]
        """The text; bytes that are not UTF-8 are replaced."""
        return super().read(row).decode("utf-8", "replace")


STORES: dict[str, type[FileStore]] = {
    "image": FileStore, "video": PathStore, "audio": PathStore, "points": FileStore, "text": TextStore
}  # fmt: skip
"""how the files of each modality are read"""


class Strings:
    """Texts that are in memory already."""

    def __init__(self, texts: Sequence[str | None], title: str) -> None:
        self.texts, self.title = texts, title

    def __len__(self) -> int:
        return len(self.texts)

    def name(self, row: int) -> str:
        """File and row."""
        return f"{self.title} row {row}"

    def read(self, row: int) -> str:
        """The text. Raises ValueError where there is none."""
        text = self.texts[row]
        if not text or not text.strip():
            raise ValueError("empty text")
        return text
