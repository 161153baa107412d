"""Finished trials on disk. Processes that fill one table side by side take turns, and none does another's trial."""

import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nolabel import methods
from nolabel.core import UserError
from nolabel.core.fields import to_json
from nolabel.engine.checkpoint import write_atomic
from nolabel.studies._trial import Trial, settings_of

try:
    import fcntl
except ImportError:  # where the system has no such locks one process at a time may fill a table
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]


class Ledger:
    """`FILE.json`, a list of what `Trial`s gave; `.FILE.lock` beside it is one byte to write and one for each trial.

    `publish(records)` writes what is made from the records; it is called with the ledger locked, after each addition.
    """

    def __init__(self, path: Path, publish: Callable[[list[Record]], None]) -> None:
        self.path, self.publish = path, publish
        # among the threads of one process, which the locks of the system do not tell apart
        self.mutex = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = open(path.with_name(f".{path.stem}.lock"), "ab")  # noqa: SIM115 - as long as the ledger
        except OSError as error:
            raise UserError(f"cannot write to {path.parent}: {error.strerror}; choose another --out") from error

    def records(self) -> list[Record]:
        """All finished trials."""
        try:
            return json.loads(self.path.read_text()) if self.path.exists() else []  # type: ignore[no-any-return]
        except ValueError as error:
            raise UserError(f"{self.path} is damaged ({error}); restore it, or delete it to begin anew") from error

    def has(self, trial: Trial) -> bool:
        """Whether this trial is finished: on this budget, with these fields and judged by all that it asks for."""
        wanted = {*trial.protocols, *([f"own {trial.own}"] if trial.own else [])}
        return any(
            alike(r, trial) and r["seed"] == trial.seed and wanted <= {s["protocol"] for s in r["scores"]}
            for r in self.records()
        )

    def add(self, record: Record) -> None:
        """Put in one finished trial, in place of an older one and of all that method and data did on other budgets or in
        settings that have changed since.
        """
        with self.mutex, self._held(0):
            kept = [
                r for r in self.records()
                if _key(r) != _key(record)
                and (_key(r)[:2] != _key(record)[:2] or (r["budget"] == record["budget"] and not outdated(r)))
            ]  # fmt: skip
            records = sorted([*kept, record], key=_key)
            text = json.dumps(records, indent=1) + "\n"
            write_atomic(self.path, lambda file: file.write(text.encode()))
            self.publish(records)

    def refresh(self) -> None:
        """Publish what is there."""
        with self.mutex, self._held(0):
            self.publish(self.records())

    @contextmanager
    def claim(self, trial: Trial) -> Iterator[bool]:
        """Whether this trial is ours: False while another process runs it."""
        place = 1 + zlib.crc32(repr(trial.key).encode())
        try:
            with self._held(place, wait=False):
                yield True
        except BlockingIOError:
            yield False

    @contextmanager
    def _held(self, place: int, wait: bool = True) -> Iterator[None]:
        """One byte of the lock file; the system lets go of it when the process dies."""
        if fcntl is None:
            yield
            return
        fcntl.lockf(self.lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
        try:
            yield
        finally:
            fcntl.lockf(self.lock, fcntl.LOCK_UN, 1, place)


def alike(record: Record, trial: Trial) -> bool:
    """Whether a finished trial is this one, but for the seed."""
    return (
        _key(record)[:3] == trial.key[:3]
        and record["budget"] == trial.budget
        and not outdated(record)
        and record.get("place", "") in ("", trial.place)
        and record.get("fields", {}) == to_json(trial.fields)
    )


def outdated(record: Record) -> bool:
    """Whether a trial was trained in settings that have changed: kept to be looked at until it is trained again."""
    if "settings" not in record or record["method"] not in methods.names():
        return bool(record.get("outdated"))
    return record["settings"] != settings_of(record["method"], record["recipe"])


def _key(record: Record) -> tuple[str, str, str, int]:
    return record["method"], record["data"], record.get("variant", ""), record["seed"]
