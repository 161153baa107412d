"""Data sets as random-access columns: open anything, decode once, read in an order that resumes exactly."""

from nolabel.data.columns import ArrayColumn, Broken, Column, EncodedColumn, Rows
from nolabel.data.labels import give, given
from nolabel.data.open import open_data
from nolabel.data.order import Order
from nolabel.data.prefetch import Prefetcher
from nolabel.data.source import Source
from nolabel.data.split import Blocks, Data, Split

__all__ = [
    "ArrayColumn",
    "Blocks",
    "Broken",
    "Column",
    "Data",
    "EncodedColumn",
    "Order",
    "Prefetcher",
    "Rows",
    "Source",
    "Split",
    "give",
    "given",
    "open_data",
]
