"""A split as a training source: batches of this rank in an order that is a pure function of (seed, step)."""

from collections.abc import Sequence

from nolabel.core import Batch, DataInfo, UserError, dist
from nolabel.data.order import Order
from nolabel.data.split import Split


class Source:
    """Fulfils `core.Source`: batches of `batch` samples over all ranks, the last incomplete batch of an epoch dropped.

    Rank r of W takes the r-th W-th of each global batch, so that the batches of the ranks, put together in rank order,
    are the batch of a single process. Labels are for evaluation: only the `columns` asked for are read, plus "index".
    Ranks are those of the process group unless given. Raises UserError where the batch does not fit data or ranks.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        columns: Sequence[str] = ("image",),
        *,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        if not 1 <= batch <= len(split):
            raise UserError(f"a batch of {batch} does not fit {len(split)} samples of '{split.name}'; set batch lower")
        self.split, self.batch, self.columns = split, batch, tuple(columns)
        self.rank = dist.rank() if rank is None else rank
        self.world = dist.world() if world is None else world
        if batch % self.world:
            raise UserError(f"a batch of {batch} cannot be shared by {self.world} processes; set batch to a multiple")
        self.epoch_steps = len(split) // batch
        self.order = Order(len(split), split.blocks)
        shapes = {name: split.columns[name].shape for name in self.columns if name != "label" and name in split.columns}
        self.info = DataInfo(len(split), split.classes, shapes)

    def at(self, seed: int, step: int) -> Batch:
        """This rank's batch at one step: the columns asked for and `index` (batch / world,)."""
        epoch, step = divmod(step, self.epoch_steps)
        share = self.batch // self.world
        first = step * self.batch + self.rank * share
        return self.split.take(self.order.epoch(seed, epoch)[first : first + share], self.columns)
