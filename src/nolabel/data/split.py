"""A split is a set of equally long columns; a data set is a few named splits."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nolabel.core import Batch, DataInfo, UserError
from nolabel.data.columns import Broken, Column, Rows
from nolabel.data.form import Form


class Blocks(NamedTuple):
    """How rows lie together on disk, for an order that does not jump all over a huge file."""

    of_row: Tensor
    """number of the block of each row (N,) int64"""
    window: int
    """blocks that may be read in turns, because they fit in memory together"""


@dataclass
class Split:
    """Samples by row number: a column for each modality, in the forms of `core.Batch`, and "label" where there are any.

    Where training may see labels, "given" (int64) are these (see `labels.give`).
    """

    name: str
    columns: dict[str, Column]
    classes: tuple[str, ...] = ()
    """names of the classes, empty without labels; a label of -1 means that this sample has none"""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of every sample left out because it cannot be decoded; grows while an uncached split is read"""
    blocks: Blocks | None = None
    """set where reading in random order would be slow"""
    names: Callable[[int], str] | None = None
    """the name of a sample, e.g. its path, from its row in the files; None where there are only numbers"""
    origin: Tensor | None = None
    """the rows in the files of these samples (N,) int64; None for all in order"""
    replaced: set[int] = field(default_factory=set)
    """rows found broken while reading"""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample of every column."""
        return {name: column.shape for name, column in self.columns.items()}

    def name_of(self, row: int) -> str:
        """What to call a sample in a message: its path, or a number. Printable."""
        row = row if self.origin is None else int(self.origin[row])
        return printable(self.names(row)) if self.names else f"{self.name} row {row}"

    def take(self, rows: Tensor | Sequence[int], columns: Sequence[str] | None = None) -> Batch:
        """The batch of these rows (B,): the columns asked for (all by default) and "index", their row numbers.

        A row that cannot be decoded is replaced by the next good one of the batch, `index` and labels included, and
        goes on record in `skipped`. Raises UserError if no row of the batch is good or a column does not exist.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        batch: Batch = {}
        for name in self.columns if columns is None else columns:
            if name not in self.columns:
                raise UserError(f"the data has no '{name}' for split '{self.name}', only {', '.join(self.columns)}")
            try:
                values = self.columns[name].take(rows)
            except Broken as broken:
                stand_in = self._stand_in(rows, broken)
                values, rows = broken.batch[stand_in], rows[stand_in]
                batch = {name: value[stand_in] for name, value in batch.items()}
            batch[name] = values
        batch["index"] = rows
        return batch

    def _stand_in(self, rows: Tensor, broken: Broken) -> Tensor:
        """The position in the batch (B,) from which every sample is taken: its own, or the next good one's."""
        size = len(rows)
        if len(broken.reasons) == size:
            first = next(iter(broken.reasons))
            what = f"{self.name_of(int(rows[first]))}: {broken.reasons[first]}"
            raise UserError(f"none of {size} samples of '{self.name}' can be decoded, e.g. {what}; check these files")
        stand_in = torch.arange(size)
        for position, why in broken.reasons.items():
            good = position
            while good in broken.reasons:
                good = (good + 1) % size
            stand_in[position] = good
            self._record(int(rows[position]), why)
        return stand_in

    def _record(self, row: int, why: str) -> None:
        if row in self.replaced:
            return
        if not self.skipped:
            warnings.warn(f"{self.name_of(row)} cannot be decoded ({why}) and is replaced", stacklevel=4)
        self.replaced.add(row)
        self.skipped.append((self.name_of(row), why))

    def part(self, rows: Tensor, name: str) -> "Split":
        """A split of the rows `rows` (M,) alone. What was skipped so far stays on record in the whole."""
        origin = rows if self.origin is None else self.origin[rows]
        blocks = self.blocks and Blocks(self.blocks.of_row[rows], self.blocks.window)
        columns: dict[str, Column] = {key: Rows(column, rows) for key, column in self.columns.items()}
        return Split(name, columns, self.classes, [], blocks, self.names, origin)


@dataclass
class Data:
    """A data set: split "train", and "test" where there is one."""

    name: str
    splits: dict[str, Split]
    notes: list[str] = field(default_factory=list)
    """what the user should know about how the data was read, one line each"""
    form: Form = field(default_factory=Form)
    """how samples are stored, with what the data decided"""
    rates: Mapping[str, float] = field(default_factory=dict)
    """samples or frames a second of what has time"""
    tokenizer: Any = None
    """of text: `encode`, `decode`, `size`, `save`"""

    @property
    def info(self) -> DataInfo:
        """What methods may know: number, classes, shapes and rates of the training samples."""
        train = self.splits["train"]
        shapes = {k: v for k, v in train.shapes.items() if k not in ("label", "given")}
        vocabulary = self.tokenizer.size if self.tokenizer is not None else 0
        return DataInfo(len(train), train.classes, shapes, dict(self.rates), vocabulary)


def printable(name: str) -> str:
    """A file name in one printable line: escapes line breaks and bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
