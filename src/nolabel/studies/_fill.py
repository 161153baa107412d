"""Going through the trials of a study: what is finished is kept, what fails is named, the table grows as they end."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from nolabel import methods
from nolabel.core import UserError
from nolabel.studies._ledger import Ledger
from nolabel.studies._trial import Failed, Trial, apart

LEAST_SHARE = 0.9
"""of its core that a training of one thread must have had to go unmentioned"""


def known(chosen: Iterable[str]) -> tuple[str, ...]:
    """The methods that were named, all of them if none was. Raises `UserError` for an unknown one."""
    for name in chosen:
        methods.load(name)
    return tuple(chosen) or tuple(methods.names())


def fill(ledger: Ledger, trials: list[Trial], runs: Path | None, redo: bool, workers: int = 1) -> None:
    """Run what is not finished, or all with `redo`, `workers` at a time. Raises `UserError` at the end if any failed.

    Each of several workers has its share of the cores, and a GPU of its own where there are some.
    """
    if workers < 1:
        raise UserError(f"--workers must be 1 or more, not {workers}")
    failed: list[str] = []
    stopped, places, here = threading.Event(), iter(_places(workers)), threading.local()

    def move_in() -> None:
        cores, here.gpu = next(places)
        if cores:
            os.sched_setaffinity(0, cores)  # of this thread, and of the processes that it starts

    def settle(number: int, trial: Trial) -> None:
        with ledger.claim(trial) as mine:
            if stopped.is_set():
                return
            if not mine or (ledger.has(trial) and not redo):
                tell(f"{number}/{len(trials)} {trial}: {'finished before' if mine else 'another process is at it'}")
                return
            start = time.monotonic()
            try:
                record = apart(trial, runs, here.gpu)
            except Failed as error:
                if not stopped.is_set():
                    failed.append(str(error))
                    tell(f"{number}/{len(trials)} {error}")
                return
            ledger.add(record)
            tell(f"{number}/{len(trials)} {trial}: {brief(record)} ({time.monotonic() - start:.0f} s)")

    with _terminated_by_exception(), ThreadPoolExecutor(workers, initializer=move_in) as pool:
        tasks = [pool.submit(settle, number, trial) for number, trial in enumerate(trials, 1)]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException as stop:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if isinstance(stop, KeyboardInterrupt):  # the terminal told the whole group; they write a checkpoint
                    process.join(60)
                process.terminate()
            raise
    ledger.refresh()
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise UserError(f"{len(failed)} of {len(trials)} trials failed: {failed[0]}{more}; the others are in the table")


def _places(workers: int) -> list[tuple[list[int], int | None]]:
    """The cores and the GPU of each worker; no cores and no GPU stand for all of them."""
    if workers == 1:
        return [([], None)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    gpus = gpu_count()
    shares = [cores[k::workers] or cores[k % len(cores) :][:1] if cores else [] for k in range(workers)]
    return [(share, k % gpus if gpus else None) for k, share in enumerate(shares)]


def gpu_count() -> int:
    """GPUs that torch sees, without waking them."""
    import torch

    return torch.cuda.device_count()


@contextmanager
def _terminated_by_exception() -> Iterator[None]:
    """SIGTERM raises, so that the processes of trials are not left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def brief(record: dict[str, Any]) -> str:
    """The scores of one trial in one line."""
    parts = [f"{s['protocol']} {s['value']:.1f} (untrained {s['random_init']:.1f})" for s in record["scores"]]
    return ", ".join([*parts, *(f"collapse alarm at step {step}" for step in record["alarms"])])


def made_with(records: Sequence[dict[str, Any]]) -> list[str]:
    """Days, machine, versions, commits of the trials, a line for each machine; then those whose minutes ran on a shared core."""
    machines: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for r in records:
        versions = ", ".join(f"{name} {number}" for name, number in r["versions"].items())
        machine = r["machine"]
        where = machine["gpu"] or f"{machine['cpu']}, processes x threads {r['processes']} x {machine['threads']}"
        machines.setdefault(f"{where}; {versions}", {}).setdefault(str(r["git"]), []).append(r)
    lines = []
    for where, commits in machines.items():
        days = sorted({r["started"][:10] for some in commits.values() for r in some})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        named = {
            commit: ", ".join(dict.fromkeys(r.get("variant") or r["method"] for r in some))
            for commit, some in commits.items()
        }
        said = [commit + (f" ({names})" if len(named) > 1 else "") for commit, names in named.items()]
        alone = f": {next(iter(named.values()))}" if len(machines) > 1 and len(named) == 1 else ""
        lines.append(f"{when}, {where}; commit{'s' if len(said) > 1 else ''} {', '.join(said)}{alone}")
    shared = [
        f"{r.get('variant') or r['method']}, seed {r['seed']} ({r['cpu_share']:.0%})"
        for r in records
        if "minutes" in r["budget"] and (r.get("cpu_share") or 1.0) < LEAST_SHARE and not r["machine"]["gpu"]
    ]
    return [*lines, f"Others used the core, too, and left of it: {'; '.join(shared)}"] if shared else lines


def tell(line: str) -> None:
    """One line to the terminal."""
    print(line, file=sys.stderr, flush=True)
