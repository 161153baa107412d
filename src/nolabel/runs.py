"""Run folders: which is new, whose it is, what lies in it besides the weights, and what is told about it."""

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nolabel import plan as plans
from nolabel.core import UserError
from nolabel.core.dist import rank
from nolabel.core.fields import to_json
from nolabel.data import Data
from nolabel.encoders.files import encoder_files
from nolabel.engine import Checkpoints
from nolabel.engine import parallel as processes
from nolabel.engine.checkpoint import held, write_atomic
from nolabel.options import Options
from nolabel.plan import Plan


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    text = json.dumps(value, indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))


def skipped(data: Data, known: Iterable[str] = ()) -> list[str]:
    """One line about every split with files that could not be read, beyond those `known` by a line of `skipped.txt`."""
    lines, known = [], set(known)
    for split in data.splits.values():
        if new := [(name, why) for name, why in split.skipped if f"{name}\t{why}" not in known]:
            names = "; ".join(f"{name} ({why})" for name, why in new[:5])
            more = f"; and {len(new) - 5} more" if len(new) > 5 else ""
            lines.append(f"skipped {len(new)} unreadable files of {split.name}: {names}{more}")
    return lines


def known_skipped(folder: Path) -> list[str]:
    """The lines of `skipped.txt`."""
    path = folder / "skipped.txt"
    return path.read_text().splitlines() if path.exists() else []


def note_skipped(folder: Path, data: Data, quiet: bool) -> None:
    """Tell which files could not be read, and list them in `skipped.txt`, each once."""
    known = known_skipped(folder)
    every = list(
        dict.fromkeys([*known, *(f"{name}\t{why}" for split in data.splits.values() for name, why in split.skipped)])
    )
    if len(every) > len(known):
        for line in [] if quiet else skipped(data, known):
            tell(line)
        write_atomic(folder / "skipped.txt", lambda file: file.write("".join(f"{x}\n" for x in every).encode()))


@contextmanager
def new_folder(options: Options, plan: Plan) -> Iterator[tuple[Path, int | None]]:
    """A folder for the run that holds none yet, and what `held` gives for it."""
    folder = options.dir or next(p for p in _names(plan) if not p.exists())
    writable(folder, "another --dir")
    with held(folder) as lock:
        if _has_begun(folder):
            other = plans.read(folder / "run.json").method
            what = "a run" if other == plan.method else f"a run of {other}"
            raise UserError(
                f"{folder} holds {what} already: 'nolabel resume {folder}' goes on with it, or choose another --dir"
            )
        yield folder, lock


def begun_before(options: Options, plan: Plan) -> Path | None:
    """The folder of the run that an earlier start of the same command has begun, be it only that it has a plan."""
    made = [options.dir] if options.dir else list(itertools.takewhile(Path.exists, _names(plan)))
    if not made or not (made[-1] / "run.json").exists():
        return None
    earlier = plans.read(made[-1] / "run.json")
    # a trained tokenizer lies in the folder
    forms = [to_json(replace(x, form=replace(x.form, tokenizer=None), about={})) for x in (earlier, plan)]
    return made[-1] if forms[0] == forms[1] else None


def _names(plan: Plan) -> Iterator[Path]:
    """What folders of a run are called by default, one after the other."""
    stem = f"{plan.method}-{Path(plan.data.rstrip('/')).stem.replace(':', '-')}"
    return (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in itertools.count(1))


def _has_begun(folder: Path) -> bool:
    """Whether a folder holds a run with something to lose: a logged step, a checkpoint or an encoder."""
    log = folder / "metrics.jsonl"
    kept = Checkpoints(folder / "checkpoints").found() or encoder_files(folder) or (log.exists() and log.stat().st_size)
    return (folder / "run.json").exists() and bool(kept)


def writable(folder: Path, other: str = "another place") -> None:
    """Make sure that a folder is there and takes files. Raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose {other}") from error


@contextmanager
def as_its_settings_say(folder: Path) -> Iterator[None]:
    """A run.json that was changed by hand can ask for the impossible in any way: that is the user's to mend."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if processes.started():  # the settings are those that `train` has just resolved
            raise
        raise UserError(f"{folder / 'run.json'} cannot be built: {type(error).__name__}: {line_of(error)}") from error


def line_of(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).splitlines()), "")[:200]


def tell(line: str) -> None:
    """A line for the user, from the first rank alone."""
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)
