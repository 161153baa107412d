"""Long recordings and documents as several samples: pieces of one length, each a row that knows its file and place.

A file of d seconds gives the whole pieces of s seconds that fit, and one more where at least half of it would be filled;
at least one. What a piece lacks is filled up by its decoder.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from nolabel.core import UserError
from nolabel.data.cache import remembered
from nolabel.data.columns import Store
from nolabel.data.listing import Listing


class Piece(NamedTuple):
    """A part of a recording: where it is, as a path or its bytes, and the second it begins at."""

    source: Any
    start: float


@dataclass(frozen=True)
class Pieces:
    """The pieces of the recordings of a store, one a row."""

    store: Store
    of_row: Sequence[int]
    """the recording of each piece"""
    starts: Sequence[float]
    """seconds"""

    def __len__(self) -> int:
        return len(self.of_row)

    def name(self, row: int) -> str:
        """The name of the recording, and the second where it is not the beginning."""
        name, start = self.store.name(self.of_row[row]), self.starts[row]
        return f"{name} at {start:g} s" if start else name

    def read(self, row: int) -> Piece:
        """Where the piece is; its decoder reads it."""
        return Piece(self.store.read(self.of_row[row]), self.starts[row])


def recording_of(name: str) -> str:
    """The name of the recording of which this is the name of a piece; other names as they are."""
    return re.sub(r" at [0-9.e+]+ s$", "", name)


def starts(length: float, piece: float) -> list[float]:
    """Where the pieces of a recording begin, in the unit of its length."""
    whole = math.floor(length / piece + 0.01)  # 2.002 s are one piece of 2 s, 1.99 s nearly so
    more = length - whole * piece >= 0.5 * piece
    return [i * piece for i in range(max(1, whole + more))]


def cut(listing: Listing, names: Sequence[str], seconds: float, length: Callable[[Any], float]) -> Listing:
    """The listing with a row for each piece of `seconds` of its recordings, the columns `names`, all of one recording.

    `length` is asked for the seconds of every recording; one of which it cannot tell is a row of its own, which decoding
    will name. Rows of one recording are one group.
    """
    stores = [store for name in names if isinstance(store := listing.columns[name], Store)]
    if len(stores) < len(names) or getattr(stores[0], "raw", False):  # arrays: samples already
        return listing
    lengths = remembered("seconds", listing.identity + " ".join(names), lambda: _lengths(stores[0], length))
    of_row, begin = [], []
    for row, each in enumerate(lengths):
        found = starts(each, seconds) if each else [0.0]
        of_row += [row] * len(found)
        begin += found
    rows = torch.tensor(of_row, dtype=torch.int64)
    columns = {name: Pieces(store, of_row, begin) for name, store in zip(names, stores)}
    return chosen(replace(listing, columns={**listing.columns, **columns}), rows, keep=names)


def chosen(listing: Listing, rows: torch.Tensor, keep: Sequence[str]) -> Listing:
    """The listing with the rows `rows` of what belongs to rows; the columns `keep` have them already."""
    groups = listing.groups if listing.groups is not None else torch.arange(int(rows.max()) + 1)
    others = {
        name: Part(c, rows.tolist()) for name, c in listing.columns.items() if name not in keep and isinstance(c, Store)
    }
    return replace(
        listing,
        columns={**listing.columns, **others},
        labels=None if listing.labels is None else listing.labels[rows],
        groups=groups[rows],
        blocks=None,
    )


@dataclass(frozen=True)
class Part:
    """Some rows of a store, in that order."""

    store: Store
    of_row: Sequence[int]

    def __len__(self) -> int:
        return len(self.of_row)

    def name(self, row: int) -> str:
        """Its name in the whole."""
        return self.store.name(self.of_row[row])

    def read(self, row: int) -> Any:
        """The sample."""
        return self.store.read(self.of_row[row])


def _lengths(store: Store, length: Callable[[Any], float]) -> list[float | None]:
    found: list[float | None] = []
    for row in range(len(store)):
        try:
            found.append(length(store.read(row)))
        except UserError:
            raise
        except Exception:  # a damaged file can raise anything; decoding will name it
            found.append(None)
    return found
