"""How long, how large, how exact: what a run needs to know besides method and data."""

import math
from dataclasses import dataclass

from nolabel.core import UserError
from nolabel.core.errors import nearest

CHOICES = {"precision": ("auto", "bf16", "fp32"), "nonfinite": ("stop", "skip")}


@dataclass(frozen=True)
class Settings:
    """One of `epochs`, `minutes` and `steps` says when a stage ends; the schedules end with it."""

    epochs: float | None = None
    minutes: float | None = None
    """wall time of training; the number of steps is re-estimated as the run goes, so that the schedule ends in time"""
    steps: int | None = None
    batch: int = 256
    """samples per optimiser step over all processes"""
    accumulate: int = 1
    """forward-backward passes per optimiser step, each over batch / accumulate samples (contrastive methods then see
    only the negatives of their own part)"""
    seed: int = 0
    precision: str = "auto"
    """auto: bfloat16 autocast where the device is fast at it; bf16; fp32"""
    compile: bool = False
    """torch.compile the networks"""
    processes: int = 1
    """processes on this machine that share the batch; torchrun decides where it started us"""
    shard: bool = False
    """deal weights, gradients and optimiser state out over the processes (FSDP2), for what does not fit one device"""
    log_every: int = 50
    """steps between log lines, or fewer where they take over 10 s: the only moments at which the host waits for the
    device"""
    checkpoint_minutes: float = 5.0
    keep: int = 2
    """number of checkpoints that stay"""
    nonfinite: str = "stop"
    """stop at a loss or gradient that is NaN or infinite, or skip the step"""

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "processes", "log_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        for name in ("epochs", "minutes", "steps"):
            length = getattr(self, name)
            if length is not None and not 0 < length < math.inf:
                raise UserError(f"--{name} must be above 0 and finite, not {length}")
        if not self.checkpoint_minutes >= 0:
            raise UserError(f"--checkpoint-minutes must be 0 or more, not {self.checkpoint_minutes}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UserError(f"unknown --{name} '{getattr(self, name)}'{nearest(str(getattr(self, name)), known)}")
