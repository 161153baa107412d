"""Observers watch a run and never change its loss: log files, TensorBoard, the progress bar."""

import json
import math
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nolabel.engine.checkpoint import write_atomic

if TYPE_CHECKING:
    from nolabel.engine.run import Run

Record = dict[str, float | int | str]


class Observer:
    """Four moments of a run; override what you need. Called on rank 0 only, `on_log` with numbers already on the host."""

    def on_start(self, run: "Run") -> None:
        """Before the first step, also after a resume."""

    def on_log(self, run: "Run", record: Record) -> None:
        """Every `log_every` steps; may add entries to `record` for the observers after it."""

    def on_checkpoint(self, run: "Run", path: Path) -> None:
        """After a checkpoint was written."""

    def on_end(self, run: "Run") -> None:
        """After the last step, or when the run is stopped."""


class JsonLines(Observer):
    """`metrics.jsonl`: one JSON object a log line. Lines past the step a run resumes from are dropped first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: "Run") -> None:
        if self.path.exists():
            kept, lines = [], self.path.read_text().splitlines(keepends=True)
            for line in lines:
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # torn by a crash
                    continue
                if (row.get("stage", 0), row.get("step", 0)) <= (run.stage, run.step):
                    kept.append(line.rstrip("\n") + "\n")
            if kept != lines:
                write_atomic(self.path, lambda file: file.write("".join(kept).encode()))
        self.file = open(self.path, "a", buffering=1)  # noqa: SIM115 - open for the whole run

    def on_log(self, run: "Run", record: Record) -> None:
        self.file.write(json.dumps(record) + "\n")

    def on_end(self, run: "Run") -> None:
        self.file.close()


class TensorBoard(Observer):
    """Events for TensorBoard, one scalar an entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_start(self, run: "Run") -> None:
        import logging

        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=run.total_step if run.total_step else None)
        self.hook, threading.excepthook = threading.excepthook, self._pass_over

    def _pass_over(self, failed: threading.ExceptHookArgs) -> None:
        """What stops the writer's thread is raised again by the next write: not printed, too."""
        if not isinstance(failed.exc_value, OSError):
            self.hook(failed)

    def on_log(self, run: "Run", record: Record) -> None:
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "stage"):
                self.writer.add_scalar(name, value, run.total_step)

    def on_end(self, run: "Run") -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self.hook


class Bar(Observer):
    """Progress on the terminal: done, time left, samples a second, share of time waiting for data, loss, k-NN.

    Where the output is not a terminal, a plain line at most every ten seconds.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def on_start(self, run: "Run") -> None:
        from rich.console import Console

        self.console, self.last, self.live = Console(stderr=True), 0.0, None
        self.shown: dict[str, Any] = {}
        if self.console.is_terminal and not self.quiet:
            from rich.progress import BarColumn, Progress, TextColumn

            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[line]}"),
                console=self.console,
                transient=False,
            )
            self.task = self.live.add_task(
                type(run.method).__name__.removeprefix("FSDP").lower(), total=1.0, line="starting"
            )
            self.live.start()
        self.started, self.start_fraction = time.monotonic(), run.fraction

    def on_log(self, run: "Run", record: Record) -> None:
        self.shown |= record
        line = self.line(run)
        if self.live:
            self.live.update(self.task, completed=run.fraction, line=line)
        elif not self.quiet and time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(f"{100 * run.fraction:3.0f} %  {line}", file=sys.stderr, flush=True)

    def on_end(self, run: "Run") -> None:
        if self.live:
            self.live.update(self.task, completed=run.fraction)
            self.live.stop()

    def line(self, run: "Run") -> str:
        """The words beside the bar."""
        r = self.shown
        parts = [f"epoch {r.get('epoch', 0):.1f}"]
        done = run.fraction - self.start_fraction
        if done > 0.002:
            left = (time.monotonic() - self.started) / done * (1 - run.fraction)
            parts.append(f"{clock(left)} left")
        parts.append(f"{r.get('samples_per_s', 0):,.0f} samples/s")
        if r.get("wait", 0) >= 0.01:
            parts.append(f"waiting for data {100 * r['wait']:.0f} %")
        loss = r.get("loss", math.nan)
        parts.append(f"loss {loss:.3f}" if isinstance(loss, float) else "")
        if "knn" in r:
            parts.append(f"k-NN {r['knn']:.1f} %")
        return "  ".join(p for p in parts if p)


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has held so far, in MiB: of the GPU where it trains on one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration, ValueError):  # the resource module would count the parent before exec, too
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = round(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
