"""How long, how large, how exact: what a run needs to know besides method and data."""

from dataclasses import dataclass


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
    log_every: int = 50
    """steps between log lines: the only moments at which the host waits for the device"""
    checkpoint_minutes: float = 5.0
    keep: int = 2
    """number of checkpoints that stay"""
    nonfinite: str = "stop"
    """stop at a loss or gradient that is NaN or infinite, or skip the step"""
