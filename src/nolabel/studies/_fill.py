"""Going through the trials of a study: what is finished is kept, what fails is named, the table grows as they end."""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nolabel import methods
from nolabel.core import UserError
from nolabel.studies._ledger import Ledger
from nolabel.studies._trial import Failed, Trial, apart


def known(chosen: Iterable[str]) -> tuple[str, ...]:
    """The methods that were named, all of them if none was. Raises `UserError` for an unknown one."""
    for name in chosen:
        methods.load(name)
    return tuple(chosen) or tuple(methods.names())


def fill(ledger: Ledger, trials: list[Trial], runs: Path | None, redo: bool) -> None:
    """Run what is not finished, or all with `redo`. Raises `UserError` at the end if any failed."""
    failed = []
    for number, trial in enumerate(trials, 1):
        with ledger.claim(trial) as mine:
            if not mine or (ledger.has(trial) and not redo):
                tell(f"{number}/{len(trials)} {trial}: {'finished before' if mine else 'another process is at it'}")
                continue
            start = time.monotonic()
            try:
                record = apart(trial, runs)
            except Failed as error:
                failed.append(str(error))
                tell(f"{number}/{len(trials)} {error}")
                continue
            ledger.add(record)
            tell(f"{number}/{len(trials)} {trial}: {brief(record)} ({time.monotonic() - start:.0f} s)")
    ledger.refresh()
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise UserError(f"{len(failed)} of {len(trials)} trials failed: {failed[0]}{more}; the others are in the table")


def brief(record: dict[str, Any]) -> str:
    """The scores of one trial in one line."""
    parts = [f"{s['protocol']} {s['value']:.1f} (untrained {s['random_init']:.1f})" for s in record["scores"]]
    return ", ".join([*parts, *(f"collapse alarm at step {step}" for step in record["alarms"])])


def made_with(records: Sequence[dict[str, Any]]) -> list[str]:
    """Days, machine and versions of the trials: one line for those that agree in machine and versions."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        versions = ", ".join(f"{name} {number}" for name, number in r["versions"].items())
        machine = r["machine"]
        where = machine["gpu"] or f"{machine['cpu']}, processes x threads {r['processes']} x {machine['threads']}"
        groups.setdefault(f"{where}; {versions}; commit {r['git']}", []).append(r)
    lines = []
    for how, some in groups.items():
        days = sorted({r["started"][:10] for r in some})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        named = ", ".join(dict.fromkeys(r.get("variant") or r["method"] for r in some))
        lines.append(f"{when}, {how}" + (f": {named}" if len(groups) > 1 else ""))
    return lines


def tell(line: str) -> None:
    """One line to the terminal."""
    print(line, file=sys.stderr, flush=True)
