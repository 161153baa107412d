"""A split as a training source: batches of this rank in an order that is a pure function of (seed, step)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nolabel.core import Batch, DataInfo, UserError, dist
from nolabel.core.random import fold
from nolabel.core.types import labelled_rows
from nolabel.data.labels import given
from nolabel.data.order import Order
from nolabel.data.split import Blocks, Split


class Source:
    """Fulfils `core.Source`: batches of `batch` samples over all ranks, the last incomplete batch of an epoch dropped.

    Rank r of W takes the r-th W-th of each global batch, so that the batches of the ranks, put together in rank order,
    are the batch of a single process. Labels are for evaluation: only the `columns` asked for are read, plus "index".

    With `labelled` > 0 the first `labelled_rows(labelled, batch)` rows of every rank's batch are samples whose label
    may be used, with their "label", and the others are samples without one, with -1. Each kind goes round in passes of
    its own without end; an epoch is one pass over the samples without label (over those with one where every row has).
    Where all samples are labelled they serve as samples without label, too.

    Ranks are those of the process group unless given. Raises UserError where the batch does not fit data or ranks.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        columns: Sequence[str] = ("image",),
        *,
        labelled: float = 0.0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        if batch < 1 or (labelled == 0 and batch > len(split)):
            raise UserError(f"a batch of {batch} does not fit {len(split)} samples of '{split.name}'; set batch lower")
        self.split, self.batch, self.columns = split, batch, tuple(columns)
        self.rank = dist.rank() if rank is None else rank
        self.world = dist.world() if world is None else world
        if batch % self.world:
            raise UserError(f"a batch of {batch} cannot be shared by {self.world} processes; set batch to a multiple")
        self.labels, self.passes = None, [_Passes(torch.arange(len(split)), split.blocks, batch)]
        if labelled > 0:
            self.labels, self.passes = self._two_kinds(labelled)
        last = self.passes[-1]
        self.epoch_steps = max(1, len(last.rows) // last.batch)
        shapes = {name: split.columns[name].shape for name in self.columns if name != "label" and name in split.columns}
        self.info = DataInfo(len(split), split.classes, shapes)

    def _two_kinds(self, labelled: float) -> tuple[Tensor, list["_Passes"]]:
        """The labels in use, and the passes over the samples with and without one."""
        labels = given(self.split)
        if labels is None or not bool((labels >= 0).any()):
            raise UserError(f"'{self.split.name}' has no labels to learn from")
        known, unknown = (labels >= 0).nonzero()[:, 0], (labels < 0).nonzero()[:, 0]
        number = self.world * labelled_rows(labelled, self.batch // self.world)
        passes = [_Passes(known, self.split.blocks, number, stream=1)]
        if number < self.batch:
            pool = unknown if len(unknown) else known
            passes.append(_Passes(pool, self.split.blocks, self.batch - number))
        return labels, passes

    def at(self, seed: int, step: int) -> Batch:
        """This rank's batch at one step: the columns asked for and `index` (batch / world,)."""
        parts = []
        for number, passes in enumerate(self.passes):
            part = passes.batch // self.world
            first = step * passes.batch + self.rank * part
            if self.labels is None:  # the incomplete batch at the end of each epoch is left out
                first += step // self.epoch_steps * (len(passes.rows) % passes.batch)
            rows = passes(seed, first, part)
            taken = self.split.take(rows, self.columns)
            if self.labels is not None:
                known = self.labels[taken["index"]]
                taken["label"] = known if number == 0 else torch.full_like(known, -1)
            parts.append(taken)
        return parts[0] if len(parts) == 1 else {name: torch.cat([p[name] for p in parts]) for name in parts[0]}


class _Passes:
    """Rows in passes without end, each in a new order; `batch` of them a step."""

    def __init__(self, rows: Tensor, blocks: Blocks | None, batch: int, stream: int | None = None) -> None:
        self.rows, self.batch, self.stream = rows, batch, stream
        self.order = Order(len(rows), blocks and Blocks(blocks.of_row[rows], blocks.window))

    def __call__(self, seed: int, first: int, count: int) -> Tensor:
        """Rows `first` to `first + count` of all passes."""
        seed = seed if self.stream is None else fold(seed, self.stream)
        parts = []
        while count > 0:
            epoch, start = divmod(first, len(self.rows))
            part = self.rows[self.order.epoch(seed, epoch)[start : start + count]]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return torch.cat(parts)
