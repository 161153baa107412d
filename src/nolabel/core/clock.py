"""Where training stands. Every schedule is a pure function of the clock, so there is no scheduler state to restore."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Step `step` of `steps` in stage `stage`, in optimiser turn `turn`; an epoch has `epoch_steps` steps."""

    step: int
    steps: int
    epoch_steps: int
    stage: int = 0
    turn: str = "all"

    @property
    def epoch(self) -> float:
        """Epochs done, fractional."""
        return self.step / self.epoch_steps

    @property
    def epochs(self) -> float:
        """Length of the stage in epochs."""
        return self.steps / self.epoch_steps

    @property
    def progress(self) -> float:
        """0 at the first step, 1 at the last."""
        return min(1.0, self.step / max(1, self.steps - 1))

    def cosine(self, start: float, end: float) -> float:
        """Half a cosine from `start` at the first step to `end` at the last."""
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * self.progress))

    def linear(self, start: float, end: float, epochs: float) -> float:
        """A straight line over the first `epochs` epochs, then `end`."""
        return start + (end - start) * min(1.0, self.epoch / epochs) if epochs > 0 else end
