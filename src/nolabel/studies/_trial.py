"""One training of a study, in a process of its own: what it reached and what it took."""

import functools
import json
import multiprocessing
import os
import re
import tempfile
import time
import zlib
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, is_dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nolabel.core import UserError
from nolabel.core.fields import to_json

if TYPE_CHECKING:
    from nolabel.evaluate import Evaluator
    from nolabel.trained import Trained

FRESH = multiprocessing.get_context("spawn")
HELD_OUT, PART = 1024, 128
"""samples on which a method's own criterion is measured, and how many at once"""


@dataclass(frozen=True)
class Trial:
    """One method on one data set from one seed."""

    method: str
    data: str
    seed: int
    budget: dict[str, Any]
    """options of the run that the result depends on: minutes, encoder, ..."""
    protocols: tuple[str, ...]
    """names in `protocol`; the first one is what the method is judged by"""
    own: str | None = None
    """the method's own criterion: "loss" or the name of what its forward logs"""
    how: dict[str, Any] = field(default_factory=dict)
    """options that only say how it is computed: processes"""
    variant: str = ""
    """what the method is called where it is tried in several forms"""
    fields: dict[str, Any] = field(default_factory=dict)
    """what makes the variant, as `nolabel.train` takes it: fields of the method, nested ones as dicts, and options"""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Method, name of the data, variant and seed."""
        return self.method, shown(self.data), self.variant, self.seed

    @property
    def place(self) -> str:
        """Of data in files, a number of where they lie: two folders may have one name. Empty for what has a name alone."""
        path = Path(self.data)
        return f"{zlib.crc32(os.fsencode(path.resolve())):08x}" if path.exists() else ""

    @property
    def name(self) -> str:
        """Of a folder that holds the run; other fields and other data give another."""
        method, data, variant, seed = self.key
        data = "-".join(filter(None, (data, self.place)))
        budget = "-".join(f"{v:g}min" if k == "minutes" else str(v) for k, v in self.budget.items())
        own = re.sub(r"\W+", "-", variant).strip("-")
        if self.fields:
            own += f"-{zlib.crc32(json.dumps(to_json(self.fields), sort_keys=True).encode()):08x}"
        return "-".join(filter(None, (method, own, data, budget, f"seed{seed}"))).replace("/", "-").replace(":", "-")

    def __str__(self) -> str:
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.method}{variant} on {shown(self.data)}, seed {self.seed}"


@functools.cache
def settings_of(method: str, recipe: str) -> str:
    """A number of what a recipe says about a method at 32 px: another one where it has changed."""
    from nolabel import recipes

    found = recipes.find(recipe, method, 32)
    return f"{zlib.crc32(json.dumps(_differs(found), sort_keys=True).encode()):08x}"


def _differs(value: Any) -> Any:
    """As JSON types, of dataclasses what is not their default: fields that they will have one day change nothing."""
    if is_dataclass(value) and not isinstance(value, type):
        said = {f.name: _differs(v) for f in fields(value) if f.init and (v := getattr(value, f.name)) != f.default}
        return {type(value).__name__: said}
    if isinstance(value, dict):
        return {k: _differs(v) for k, v in value.items()}
    return [_differs(v) for v in value] if isinstance(value, tuple | list) else value


class Failed(Exception):
    """A trial did not come to its end; the text is one line."""


def shown(data: str) -> str:
    """What a data set is called in a table: the last part of a path."""
    return Path(data).name if Path(data).exists() else data


def protocol(name: str) -> "Evaluator":
    """The settings with which studies judge: those of the library, but what is fitted is chosen on fewer samples and from
    fewer candidates, for hundreds of runs.
    """
    from nolabel.evaluate import FineTune, Linear, LowShot, Segments
    from nolabel.trained import PROTOCOLS

    if name == "linear":
        return Linear(grid=(1e-4, 1e-3, 1e-2, 1e-1), sweep_rows=5000)
    if name == "low-shot":
        return LowShot(labels=3, draws=10)
    if name == "segments":
        return Segments(draws=5)
    return FineTune(samples=1000, batch=64, rates=(1e-3,)) if name == "fine-tune" else PROTOCOLS[name]()


def measure(trial: Trial, folder: Path) -> dict[str, Any]:
    """Train into `folder` (or go on there), judge, and say what it reached and took, as JSON types."""
    import nolabel as nl

    begun, worked = time.monotonic(), time.process_time()
    if (folder / "run.json").exists():
        trained = nl.resume(folder, quiet=True)
    else:
        options = {**trial.budget, **trial.how, **trial.fields, "seed": trial.seed, "dir": folder}
        trained = nl.train(trial.method, trial.data, evaluate=(), report=False, quiet=True, **options)
    share = (time.process_time() - worked) / (time.monotonic() - begun)
    judged = [protocol(name) for name in trial.protocols]
    # of several encoders the first one speaks
    rows = {(r["protocol"], r["metric"]): r for r in reversed(trained.judge(None, judged))}
    missing = [p.name for p in judged if (p.name, p.metrics[0]) not in rows]
    if missing:
        raise UserError(f"{trial} could not be judged by {', '.join(missing)}: the data need labels and a test split")
    scores = [_score(rows[p.name, p.metrics[0]]) for p in judged] + ([own(trained, trial.own)] if trial.own else [])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    about, settings = trained.plan.about, trained.plan.settings
    return {
        **dict(zip(("method", "data", "variant", "seed"), trial.key)),
        "budget": trial.budget,
        "fields": to_json(trial.fields),
        "scores": scores,
        "place": trial.place,
        "meant": shown(trained.plan.data),
        "recipe": trained.plan.recipe,
        "settings": settings_of(trial.method, trained.plan.recipe),
        "encoder": trained.plan.encoder,
        "batch": settings.batch,
        "processes": settings.processes,
        "seconds": lines[-1]["seconds"],
        # on a core that others use, too, a budget in minutes says little
        "cpu_share": share if settings.processes == about["machine"]["threads"] == 1 else None,
        "steps": lines[-1]["step"],
        "samples_per_s": median(line["samples_per_s"] for line in lines),
        "memory": lines[-1]["memory"],
        "alarms": [line["step"] for line in lines if "alarm" in line],
        "looks": [line["knn"] for line in lines if "knn" in line],
        **{k: about[k] for k in ("started", "versions", "git", "machine")},
    }


def _score(row: dict[str, Any]) -> dict[str, Any]:
    names = ("protocol", "metric", "value", "random_init", "raw_input")
    return {k: row[k] for k in names} | {"settings": row["settings"]}


def own(trained: "Trained", name: str) -> dict[str, Any]:
    """The method's own criterion on held-out samples: its loss, or what its forward logs; beside it untrained weights.

    Both see the same views and draw the same masks, and have looked at the data before the first step, if the method does.
    """
    import torch

    from nolabel import plan as plans
    from nolabel.access import Access
    from nolabel.core.random import fold, generator, seed_all
    from nolabel.engine import Checkpoints

    data = trained.built.data
    state = Checkpoints(trained.folder / "checkpoints").load()
    if state is None:
        raise UserError(f"{trained.folder} has no checkpoint to measure {name} with")
    t, split = plans.clock_at_end(state), data.splits.get("test", data.splits["train"])
    found = []
    for weights in (state["method"], None):
        built = plans.build(trained.plan, torch.device("cpu"), data)
        method = built.method.eval()
        if weights is None:
            seed_all(fold(trained.plan.settings.seed, 0, 0, -2))  # as the run did
            method.begin_stage(replace(t, step=0, stage=0), Access(built, torch.device("cpu")))
        else:
            method.load_state_dict(weights)
        columns = [c for c in split.columns if c != "label" or method.labelled]
        total, parts = 0.0, torch.arange(min(HELD_OUT, len(split))).split(PART)
        with torch.no_grad():
            for i, rows in enumerate(parts):
                views = method.views(split.take(rows, columns), generator(i))
                seed_all(i)
                loss, logs = method(views, t)
                total += float({**logs, "loss": loss}[name]) / len(parts)
        found.append(total)
    score = {"protocol": f"own {name}", "metric": name, "value": found[0], "random_init": found[1], "raw_input": None}
    return {**score, "settings": {"samples": HELD_OUT}}


def apart(trial: Trial, runs: Path | None = None, gpu: int | None = None) -> dict[str, Any]:
    """`measure` in a fresh process, so that memory is the run's own and no run inherits another's threads or caches.

    Under `runs` the run stays and an unfinished one is gone on with; without, it is removed. The process has the cores of
    the thread that starts it, and only the `gpu` of that number, if any. Raises `Failed`.
    """
    with tempfile.TemporaryDirectory() if runs is None else nullcontext(str(runs)) as folder:
        here, there = FRESH.Pipe(duplex=False)
        process = FRESH.Process(target=_work, args=(there, trial, Path(folder) / trial.name, gpu))
        process.start()
        there.close()
        try:
            found = here.recv()
        except EOFError:
            process.join()
            raise Failed(f"{trial}: its process ended with code {process.exitcode}") from None
        process.join()
    if isinstance(found, str):
        raise Failed(f"{trial}: {found}")
    return found  # type: ignore[no-any-return]


def _work(pipe: Connection, trial: Trial, folder: Path, gpu: int | None) -> None:
    from nolabel.engine import Interrupted

    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    try:
        pipe.send(measure(trial, folder))
    except UserError as error:
        pipe.send(str(error))
    except Interrupted as stop:
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:  # outside the training: there is nothing to save
        raise SystemExit(130) from None
