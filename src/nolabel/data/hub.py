"""Data sets of the Hugging Face hub, through the library `datasets`."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from nolabel.core import UserError
from nolabel.data.columns import Column, Store
from nolabel.data.files import Strings
from nolabel.data.listing import Listing
from nolabel.data.parquet import BytesArray, binary_column, class_names, features_of, label_column, text_column


def listings(name: str, columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of "owner/name", downloaded at first use. Raises UserError where that fails."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"hf:{name} needs the library datasets: pip install 'nolabel[hf]'") from None
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises many kinds; the user needs its one line
        short = " ".join(str(error).split())[:150]
        raise UserError(f"cannot get hf:{name}: {short}; check name and network, or give local Parquet files") from None
    return {split: _listing(name, split, part, columns) for split, part in found.items()}


def _listing(name: str, split: str, data: Any, columns: Sequence[str]) -> Listing:
    table, where, title = data.data, f"hf:{name}", f"{name} {split}"
    features = features_of(table.schema)
    label = label_column(table.schema, features)
    stores: dict[str, Store | Column] = {}
    for column in columns:
        if column == "text":
            stores[column] = Strings(
                table.column(text_column(table.schema, where, len(columns) == 1)).to_pylist(), title
            )
        else:
            chunks = table.column(binary_column(column, table.schema, features, where)).chunks
            stores[column] = ArrowStore([BytesArray(chunk) for chunk in chunks if len(chunk)], title)
    listing = Listing(stores, f"hf {name} {split} {data._fingerprint}")
    if label:
        values = [None if value == -1 else value for value in table.column(label).to_pylist()]
        listing.label(values, class_names(features.get(label)))
    return listing


class ArrowStore:
    """The samples in a column of a memory-mapped Arrow table."""

    def __init__(self, chunks: list[BytesArray], title: str) -> None:
        self.chunks, self.title = chunks, title
        self.starts = [0, *itertools.accumulate(len(chunk.offsets) - 1 for chunk in chunks)]

    def __len__(self) -> int:
        return self.starts[-1]

    def name(self, row: int) -> str:
        """Name and row."""
        return f"{self.title} row {row}"

    def read(self, row: int) -> memoryview:
        """The bytes of one sample."""
        chunk = bisect_right(self.starts, row) - 1
        return self.chunks[chunk][row - self.starts[chunk]]
