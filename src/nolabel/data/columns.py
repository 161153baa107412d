"""Columns: everything a data set holds is a set of equally long columns with random access by row.

An `ArrayColumn` lies in memory or is memory-mapped; an `EncodedColumn` decodes samples on demand; `Rows` is a part of
another column. All give a whole batch at once: one gather, never a loop over `x[i]`.
"""

import errno
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nolabel.data.decode import reason


class Column(Protocol):
    """One named value of every sample. Its `dtype`, of numpy, is uint8 where it does not say."""

    shape: tuple[int, ...]
    """of one sample"""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Tensor:
        """Rows (B,) int64 -> their values (B, *shape). Raises `Broken` where some cannot be read."""
        ...


class Broken(Exception):
    """Some rows of a batch cannot be decoded: `reasons` by position in the batch, `batch` with the others in place."""

    def __init__(self, batch: Tensor, reasons: dict[int, str]) -> None:
        super().__init__(f"{len(reasons)} of {len(batch)} samples cannot be decoded")
        self.batch, self.reasons = batch, reasons


class ArrayColumn:
    """A tensor, array or memory map, (N, *shape)."""

    def __init__(self, array: Tensor | NDArray) -> None:
        with warnings.catch_warnings():  # that a map is not writable: `take` only reads it, and gives copies
            warnings.simplefilter("ignore")
            self.array = array if isinstance(array, Tensor) else torch.from_numpy(array)
        self.shape = tuple(self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of numpy."""
        return self.array[:0].numpy().dtype

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: Tensor) -> Tensor:
        """One gather: (B,) int64 -> (B, *shape)."""
        return self.array.index_select(0, rows)


class Rows:
    """The rows `rows` (M,) of another column, in that order."""

    def __init__(self, column: Column, rows: Tensor) -> None:
        self.column, self.rows = column, rows
        self.shape, self.dtype = column.shape, getattr(column, "dtype", np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor) -> Tensor:
        """(B,) int64 -> (B, *shape)."""
        return self.column.take(self.rows[rows])


@runtime_checkable
class Store(Protocol):
    """Samples as they lie on disk, one a row. `read` is called from several threads at once."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Any:
        """One sample as its decoder takes it, e.g. the bytes of an image. Raises any exception where that fails."""
        ...

    def name(self, row: int) -> str:
        """What to call this row in a message: a path, or a file and a row number."""
        ...


class Decoder(Protocol):
    """From what a store gives to the stored form of one modality: a frozen dataclass, whose text names its settings."""

    dtype: ClassVar[type]
    """of numpy"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        ...

    def __call__(self, blob: Any, out: NDArray) -> None:
        """Write one sample into `out`. Raises whatever goes wrong with a damaged one."""
        ...


class EncodedColumn:
    """Samples of a store, decoded on demand by a thread pool."""

    def __init__(self, store: Store, decoder: Decoder, workers: int | None = None) -> None:
        self.store, self.decoder = store, decoder
        self.shape, self.dtype = decoder.shape, decoder.dtype
        self.workers = workers or default_workers()

    def __len__(self) -> int:
        return len(self.store)

    def take(self, rows: Tensor, out: NDArray | None = None) -> Tensor:
        """(B,) int64 -> (B, *shape), in `out` if given. Raises `Broken` if any row is."""
        if out is None:
            out = np.empty((len(rows), *self.shape), self.decoder.dtype)
        numbers = rows.tolist()
        broken: dict[int, str] = {}

        def work(positions: Sequence[int]) -> None:
            for position in positions:
                try:
                    self.decoder(self.store.read(numbers[position]), out[position])
                except Exception as error:  # a damaged file can raise anything; it is named to the user, never hidden
                    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                        raise  # too many open files: the fault of the machine, not of this one
                    broken[position] = reason(error)

        # In the order in which the rows lie on disk, so that a block is read and unpacked once a batch.
        order = torch.argsort(rows, stable=True).tolist()
        if self.workers == 1 or len(order) < 2:
            work(order)
        else:
            share = -(-len(order) // (4 * self.workers))
            list(_pool(self.workers).map(work, (order[i : i + share] for i in range(0, len(order), share))))
        batch = torch.from_numpy(out)
        if broken:
            raise Broken(batch, dict(sorted(broken.items())))
        return batch


def default_workers() -> int:
    """Decoding threads of this process: its share of the cores it may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "decode")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
