"""Which rows make a step: a pure function of (seed, step), so that resuming needs no state."""

import threading

import torch
from torch import Tensor

from nolabel.core.random import fold, generator
from nolabel.data.split import Blocks


class Order:
    """A new permutation of `count` rows every epoch, a pure function of (seed, epoch).

    With `blocks` the order is local: the blocks are shuffled, and then the rows within each `window` of successive
    blocks, so that only the blocks of one window are read in turns.
    """

    def __init__(self, count: int, blocks: Blocks | None = None) -> None:
        self.count, self.blocks = count, blocks
        self._last: tuple[int, int, Tensor] | None = None
        self._lock = threading.Lock()

    def epoch(self, seed: int, epoch: int) -> Tensor:
        """The rows of one epoch in order (count,) int64."""
        with self._lock:
            if self._last is None or self._last[:2] != (seed, epoch):
                self._last = seed, epoch, self._shuffle(generator(fold(seed, epoch)))
            return self._last[2]

    def _shuffle(self, rng: torch.Generator) -> Tensor:
        rows = torch.randperm(self.count, generator=rng)
        if self.blocks is None:
            return rows
        blocks = int(self.blocks.of_row.max()) + 1
        window = torch.randperm(blocks, generator=rng) // self.blocks.window
        return rows[torch.argsort(window[self.blocks.of_row[rows]], stable=True)]
