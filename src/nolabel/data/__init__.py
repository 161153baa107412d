"""Data sets as random-access columns: open anything, decode once, read in an order that resumes exactly."""

from nolabel.data.arrays import at_rest
from nolabel.data.columns import ArrayColumn, Broken, Column, EncodedColumn, Rows
from nolabel.data.form import Form, as_stored
from nolabel.data.labels import give, given
from nolabel.data.open import open_data
from nolabel.data.order import Order
from nolabel.data.prefetch import Prefetcher
from nolabel.data.settle import FRAMES, SECONDS
from nolabel.data.source import Source
from nolabel.data.split import Blocks, Data, Split

__all__ = [
    "FRAMES",
    "SECONDS",
    "ArrayColumn",
    "Blocks",
    "Broken",
    "Column",
    "Data",
    "EncodedColumn",
    "Form",
    "Order",
    "Prefetcher",
    "Rows",
    "Source",
    "Split",
    "as_stored",
    "at_rest",
    "give",
    "given",
    "open_data",
]
