"""The loop: turns, stages, counted randomness, logs that never make the host wait, exact resume."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nolabel.core import Batch, Clock, Method, Source, UserError
from nolabel.core.dist import barrier, rank, share, world
from nolabel.core.random import fold, seed_all
from nolabel.engine.checkpoint import Checkpoints, disk_of
from nolabel.engine.observe import Observer, Record, peak_memory
from nolabel.engine.parallel import wrap
from nolabel.engine.precision import attention_for, autocast_dtype
from nolabel.engine.settings import Settings
from nolabel.engine.shard import dealt, part_of, plain, shard, synchronised, whole
from nolabel.optim import learning_rate, optimizer, steady, undecayed, weight_decay

_SILENCE, _ATTENTION = 10.0, 2.0
"""seconds after which a line is logged in any case, and between two moments at which several ranks heed a signal"""


class Interrupted(Exception):
    """A signal ended the run after a checkpoint was written; `code` is the exit code."""

    def __init__(self, code: int, path: Path | None) -> None:
        super().__init__(f"stopped; {'checkpoint ' + str(path) if path else 'no run folder, nothing written'}")
        self.code, self.path = code, path


class NonFinite(UserError):
    """The loss or a gradient is NaN or infinite; the message names the step and the dump that replays it."""


class OutOfMemory(UserError):
    """A step needs more memory than the device has; `steps` were done before."""

    def __init__(self, message: str, steps: int) -> None:
        super().__init__(message)
        self.steps = steps


class Feed(Protocol):
    """Batches in order, prepared ahead of time."""

    waited: float

    def __next__(self) -> Batch: ...

    def close(self) -> None:
        """Stop preparing."""
        ...


class Run:
    """One training run. `feed(seed, start)` opens the batches of a stage from any step on."""

    def __init__(
        self,
        method: Method,
        source: Source,
        settings: Settings,
        *,
        feed: Callable[[int, int], Feed],
        data: Any = None,
        device: torch.device | None = None,
        folder: Path | None = None,
        observers: Sequence[Observer] = (),
        tell: Callable[[str], None] = print,
    ) -> None:
        """`data` is what `begin_stage` and `begin_epoch` receive; `tell` takes one-line warnings."""
        self.method, self.source, self.settings, self.feed, self.data = method, source, settings, feed, data
        self.device = device or torch.device("cpu")
        self.folder, self.tell = folder, tell
        self.observers = list(observers) if rank() == 0 else []
        self.autocast = autocast_dtype(self.device, settings.precision)
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.keep) if folder else None
        self.epoch_steps = max(1, source.epoch_steps // settings.accumulate)
        self.stage = self.step = self.done_steps = 0
        self.fresh = True  # the stage has not begun: its hook is still to run
        self.seconds = 0.0  # training time of this stage before this process
        self.steps = self._planned_steps()
        self.pending: list[dict[str, Tensor]] = []
        self.signal: int | None = None
        self.rng = torch.Generator(self.device)
        attention_for(method, self.device)
        self.sharded = settings.shard and world() > 1
        if self.sharded:
            shard(method)
        self._prepare()

    # ---- what is left to do ---------------------------------------------------------------------------------------
    def _planned_steps(self) -> int:
        s = self.settings
        if s.steps is not None:
            return max(1, s.steps)
        if s.epochs is not None:
            return max(1, round(s.epochs * self.epoch_steps))
        if s.minutes is None:
            raise UserError("say how long to train: --epochs, --minutes or --steps")
        return 10**6  # until the first steps were timed

    def clock(self, turn: str = "all") -> Clock:
        """Where the run stands."""
        return Clock(self.step, self.steps, self.epoch_steps, self.stage, turn)

    @property
    def total_step(self) -> int:
        """Optimiser steps over all stages."""
        return self.done_steps + self.step

    @property
    def fraction(self) -> float:
        """Share of the whole run that is done."""
        if self.stage >= self.method.stages:
            return 1.0
        stage = self.step / self.steps
        if self.settings.minutes is not None:
            stage = min(1.0, max(stage, self._elapsed() / self._budget()))
        shares = self._shares()
        return sum(shares[: self.stage]) + stage * shares[self.stage]

    def _shares(self) -> tuple[float, ...]:
        return self.method.shares or (1 / self.method.stages,) * self.method.stages

    def _budget(self) -> float:
        return 60 * (self.settings.minutes or 0.0) * self._shares()[self.stage]

    def _elapsed(self) -> float:
        return self.seconds + (time.monotonic() - self.since if hasattr(self, "since") else 0.0)

    # ---- state ----------------------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        """Optimisers and the data-parallel wrapper of this stage: both follow from the clock, so resume rebuilds them."""
        self.groups = {name: list(ps) for name, ps in self.method.groups(self.clock()).items()}
        trained = {id(p) for ps in self.groups.values() for p in ps}
        for p in self.method.parameters():
            p.requires_grad_(id(p) in trained)
        self.call: nn.Module = self.method if self.sharded else wrap(self.method)
        marked = undecayed(self.method), steady(self.method)
        self.optims = {name: optimizer(self.method.optim, ps, *marked) for name, ps in self.groups.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a fresh process needs to go on bit for bit."""
        return {
            "method": self.method.state_dict(),
            "optims": {name: o.state_dict() for name, o in self.optims.items()},
            "stage": self.stage,
            "step": self.step,
            "done_steps": self.done_steps,
            "steps": self.steps,
            "seconds": self._elapsed(),
            "fresh": self.fresh,
            "seed": self.settings.seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where `state` was taken, by however many ranks."""
        try:
            self.method.load_state_dict(dealt(state["method"], self.method.state_dict()))
        except RuntimeError as error:
            raise UserError(
                f"the checkpoint is of another method or encoder: {str(error).splitlines()[1].strip()}"
            ) from error
        self.stage, self.step, self.done_steps = state["stage"], state["step"], state["done_steps"]
        self.steps, self.seconds, self.fresh = state["steps"], state["seconds"], state["fresh"]
        self._prepare()
        for name, o in self.optims.items():
            own = [p for group in o.param_groups for p in group["params"]]
            moments = {
                i: {
                    k: dealt(v, own[i]) if torch.is_tensor(v) and v.shape == own[i].shape else v
                    for k, v in moment.items()
                }
                for i, moment in state["optims"][name]["state"].items()
            }
            o.load_state_dict({**state["optims"][name], "state": moments})

    def resume(self) -> bool:
        """Load the newest intact checkpoint of the folder; False if there is none."""
        state = self.checkpoints.load(self.tell) if self.checkpoints else None
        if state is not None:
            self.load_state_dict(state)
        return state is not None

    def save(self) -> Path | None:
        """Write a checkpoint now: rank 0 writes it, or each rank its part."""
        self.saved_at = time.monotonic()
        if self.checkpoints is None or (rank() != 0 and not self.sharded):
            return None
        parts = (rank(), world()) if self.sharded else (0, 1)
        path = self.checkpoints.save(self.stage, self.step, part_of(self.state_dict()), *parts)
        if self.sharded:
            barrier()  # the parts of all ranks are there
        if rank() != 0:
            return path
        self.checkpoints.prune(path)
        for observer in self.observers:
            observer.on_checkpoint(self, path)
        return path

    # ---- the loop -------------------------------------------------------------------------------------------------
    def train(self, until: int | None = None) -> None:
        """Train to the end, or until step `until` of the current stage. Raises `Interrupted` after SIGINT or SIGTERM."""
        self.method.train()
        self.since = self.saved_at = self.logged_at = time.monotonic()
        self.timed: tuple[float, int] | None = None
        restore = self._catch_signals()
        started: list[Observer] = []
        try:
            with disk_of(self.folder), self._memory():
                with whole(self.method):
                    for observer in self.observers:
                        observer.on_start(self)
                        started.append(observer)
                self._stages(until)
        finally:
            restore()
            for observer in started:
                with suppress(OSError):  # of a full disk, which was told before
                    observer.on_end(self)

    def _stages(self, until: int | None) -> None:
        while self.stage < self.method.stages:
            if not self._stage(until):
                return
            self.stage += 1
            self.done_steps += self.step
            if self.stage < self.method.stages:
                self.step, self.fresh, self.seconds, self.since = 0, True, 0.0, time.monotonic()
                self.steps, self.timed = self._planned_steps(), None
        self.save()

    def _stage(self, until: int | None) -> bool:
        """Train one stage; False if it was left early."""
        if self.fresh:
            seed_all(fold(self.settings.seed, self.stage, 0, -2))
            begun = time.monotonic()
            self.method.begin_stage(self.clock(), self.data)
            self._prepare()
            self.fresh = False
            # labelling a whole data set is no training: a stage keeps the minutes it was given
            self.since += time.monotonic() - begun
        parts = self.settings.accumulate
        feed = self.feed(fold(self.settings.seed, 1 + self.stage), self.step * parts)
        self.waited = 0.0
        self.met, self.meeting = (time.monotonic(), self.step), self.step + 1
        try:
            while self.step < self.steps:
                if until is not None and self.step >= until:
                    return False
                self._one([next(feed) for _ in range(parts)])
                self._meet(feed)
                if self.settings.minutes is not None:
                    self._plan()
        finally:
            feed.close()
        if self.pending:
            self._log(feed)
        return True

    def _one(self, batches: list[Batch]) -> None:
        """One optimiser step of every turn."""
        method, t, seed = self.method, self.clock(), self.settings.seed
        if self.step % self.epoch_steps == 0:
            seed_all(fold(seed, self.stage, self.step, -1))  # one stream for all ranks
            method.begin_epoch(t, self.data)
            method.train()
        here = fold(seed, self.stage, self.step, rank())  # one stream per rank
        self.rng.manual_seed(fold(here, 1))
        with torch.no_grad():
            views = [method.views(batch, self.rng) for batch in batches]
        seed_all(here)
        logs: dict[str, Tensor] = {}
        for turn in method.turns:
            logs |= self._turn(replace(t, turn=turn) if len(method.turns) > 1 else t, views, turn, batches)
        with torch.no_grad():
            method.after_step(t)
        self.step += 1
        self.pending.append(logs)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Say in one line that the memory of the device does not suffice."""
        try:
            yield
        except RuntimeError as error:
            # of the host torch says so in words alone
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            parts = 2 * self.settings.accumulate
            raise OutOfMemory(
                f"step {self.step + 1} needs more memory than there is on the device ({self.device.type}): take a smaller "
                f"--batch than {self.settings.batch}, or --accumulate {parts}, which trains on it in {parts} parts",
                self.total_step,
            ) from error

    def _turn(self, t: Clock, views: list[Batch], turn: str, batches: list[Batch]) -> dict[str, Tensor]:
        method, optim, o = self.method, self.optims[turn], self.method.optim
        many = len(method.turns) > 1
        if many:
            for name, ps in self.groups.items():
                for p in ps:
                    p.requires_grad_(name == turn)
        logs: dict[str, Tensor] = {}
        for i, view in enumerate(views):
            last = i == len(views) - 1
            synchronised(self.call, last)
            with nullcontext() if last or world() == 1 or self.sharded else self.call.no_sync():  # type: ignore[operator]
                if self.autocast is None:
                    loss, more = self.call(view, t)
                else:
                    with torch.autocast(self.device.type, self.autocast):
                        loss, more = self.call(view, t)
                (loss / len(views) if len(views) > 1 else loss).backward()
            found = {"loss": loss.detach(), **{k: v.detach() for k, v in more.items()}}
            logs = {k: v / len(views) + logs.get(k, 0) for k, v in found.items()} if len(views) > 1 else found
        method.after_backward(t)
        grads = [p.grad for p in self.groups[turn] if p.grad is not None]
        norm = self._norm(grads)
        fine = True
        if self.device.type == "cpu" or self.settings.nonfinite == "skip":  # on the host this waits for nothing
            fine = math.isfinite((norm + logs["loss"]).item())
            if not fine and self.settings.nonfinite != "skip":
                raise self._nonfinite(self.step, batches)
        if o.clip_each is not None:
            for g in grads:
                g.mul_((o.clip_each / (plain(g.norm()) + 1e-6)).clamp(max=1.0))
        if o.clip is not None:
            torch._foreach_mul_(grads, (o.clip / (norm + 1e-6)).clamp(max=1.0))
        if fine:
            decay = weight_decay(o, t)
            for group in optim.param_groups:
                group["lr"] = learning_rate(o, t, self.settings.batch, group.get("steady", False))
                if group["decays"]:
                    group["weight_decay"] = decay
            optim.step()
        optim.zero_grad()
        logs["grad_norm"] = norm
        return {f"{turn}/{k}": v for k, v in logs.items()} if many else logs

    def _norm(self, grads: list[Tensor]) -> Tensor:
        """Of all gradients as one vector; torch's own helper takes twice as long where nothing is sharded."""
        if self.sharded or not grads:
            return plain(torch.nn.utils.get_total_norm(grads))
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))

    # ---- what happens between steps -------------------------------------------------------------------------------
    def _meet(self, feed: Feed) -> None:
        """Log, and heed a signal: every `log_every` steps, and where those are slow every `_SILENCE` and `_ATTENTION`.

        All ranks do so at the same steps, which rank 0 chooses.
        """
        due = self.step % self.settings.log_every == 0 or self.step == self.steps
        if world() > 1 and not due and self.step < self.meeting:
            return
        if due:
            self._log(feed)
        now = time.monotonic()
        pace = (now - self.met[0]) / max(1, self.step - self.met[1])
        self.met = (now, self.step)
        meeting = self.step + max(1, int(_ATTENTION / max(pace, 1e-6)))
        # what the ranks agree on is kept apart from `self.signal`: one may come in while they meet
        signal, late, self.meeting = share((self.signal, not due and now - self.logged_at > _SILENCE, meeting))
        if late:
            self._log(feed)
        if signal is not None:
            raise Interrupted(128 + signal, self.save())

    def _log(self, feed: Feed) -> None:
        """Bring the logs of the last steps to the host: the only wait for the device."""
        names = list(dict.fromkeys(k for logs in self.pending for k in logs))
        zero = torch.full((), float("nan"), device=self.device)
        table = torch.stack([torch.stack([logs.get(k, zero).float() for k in names]) for logs in self.pending])
        first_bad = self.step - len(self.pending)
        said = torch.tensor([[k in logs for k in names] for logs in self.pending], device=self.device)
        bad = (said & ~table.isfinite()).any(1) if self.settings.nonfinite == "stop" else table.new_zeros(len(table))
        means, bad_rows = table.nanmean(0).tolist(), bad.tolist()
        steps, self.pending = len(self.pending), []
        if self.settings.nonfinite == "stop" and True in bad_rows:
            raise self._nonfinite(first_bad + bad_rows.index(True), [])
        now = time.monotonic()
        took, self.logged_at = max(1e-9, now - self.logged_at), now
        record: Record = {"step": self.step, "stage": self.stage, "epoch": self.step / self.epoch_steps}
        record |= dict(zip(names, means))
        if len(self.method.turns) > 1:
            record["loss"] = sum(v for k, v in zip(names, means) if k.endswith("/loss"))
        record |= {
            "lr": learning_rate(self.method.optim, self.clock(), self.settings.batch),
            "samples_per_s": steps * self.settings.batch / took,
            "wait": min(1.0, (feed.waited - self.waited) / took),
            "seconds": self._elapsed(),
            "memory": peak_memory(self.device),
        }
        self.waited = feed.waited
        with whole(self.method):
            for observer in self.observers:
                observer.on_log(self, record)
        if share(now - self.saved_at > 60 * self.settings.checkpoint_minutes):
            self.save()

    def _plan(self) -> None:
        """Fit the number of steps to the minutes: re-estimated while the run goes, from the pace of the recent steps."""
        if self.step not in (3, 10, 20) and self.step % self.settings.log_every:
            return
        elapsed = self._elapsed()
        if self.timed is None:
            self.timed = (elapsed, self.step)
            return
        pace = (elapsed - self.timed[0]) / max(1, self.step - self.timed[1])
        if self.step - self.timed[1] >= 20 * self.settings.log_every:
            self.timed = (elapsed, self.step)
        left = self._budget() - elapsed
        self.steps = share(max(self.step + round(left / max(pace, 1e-6)), self.step))

    def _nonfinite(self, step: int, batches: list[Batch]) -> NonFinite:
        where = f"stage {self.stage}, step {step}"
        if self.folder is None:
            return NonFinite(f"loss or gradient is not finite at {where}; try a lower --optim.lr")
        rows = [b["index"] for b in batches if "index" in b] or [
            self.source.at(fold(self.settings.seed, 1 + self.stage), step * self.settings.accumulate + i)["index"]
            for i in range(self.settings.accumulate)
        ]
        path = self.folder / f"nonfinite-{self.stage}-{step}-rank{rank()}.pt"
        torch.save({**part_of(self.state_dict()), "failed_step": step, "index": torch.cat(rows)}, path)
        return NonFinite(
            f"loss or gradient is not finite at {where}; state and batch indices are in {path}; "
            "try a lower --optim.lr, or --nonfinite skip"
        )

    def _catch_signals(self) -> Callable[[], None]:
        """SIGINT and SIGTERM finish the step, write a checkpoint and leave; a second one leaves at once."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def note(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number

        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore
