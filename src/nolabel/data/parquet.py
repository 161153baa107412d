"""Parquet files as Hugging Face `datasets` lays them out: encoded samples in a column, class names in the schema."""

import itertools
import json
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from nolabel.core import UserError
from nolabel.data.columns import Column, Store
from nolabel.data.files import Strings, file_identity
from nolabel.data.listing import Listing, split_of
from nolabel.data.split import Blocks
from nolabel.data.table import CAPTIONS, TEXTS

MEMORY = 2**30
"""bytes of unpacked row groups that are kept"""


def listings(files: Sequence[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of some Parquet files, by the words train, test, validation in their names; all "train" without them.

    Raises UserError where a file is damaged or has no column of a wanted kind.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault((split_of(file.stem) or "") if len(files) > 1 else "", []).append(file)
    return {split: _listing(paths, columns) for split, paths in by_split.items()}


def _listing(files: list[Path], columns: Sequence[str]) -> Listing:
    metas = [_meta(file) for file in files]
    schemas = [meta.schema.to_arrow_schema() for meta in metas]
    features = [features_of(schema) for schema in schemas]
    label = label_column(schemas[0], features[0])
    stores: dict[str, Store | Column] = {}
    listing = Listing(stores, file_identity(files))
    for column in columns:
        if column == "text":
            name = text_column(schemas[0], str(files[0]), alone=len(columns) == 1)
            _all_have(name, files, schemas)
            texts = [text for file in files for text in _values(file, name)]
            stores[column] = Strings(texts, files[0].name if len(files) == 1 else "table")
        else:
            name = binary_column(column, schemas[0], features[0], str(files[0]))
            _all_have(name, files, schemas)
            store = ParquetStore(files, metas, name)
            stores[column], listing.blocks = store, listing.blocks or store.blocks
    if label:
        _all_have(label, files, schemas)
        values: list[Any] = []
        classes: list[str] = []
        for file, schema, names in zip(files, schemas, features):
            own = class_names(names.get(label))
            classes += [name for name in own if name not in classes]
            part = _values(file, label)
            # By name where there are names, so that files that number their classes differently go together.
            values += [(own[v] if 0 <= v < len(own) else None) if own and isinstance(v, int) else v for v in part]
        listing.label(values, classes)
    return listing


def _all_have(column: str, files: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    """Raise UserError unless all files have a column."""
    for file, schema in zip(files, schemas):
        if column not in schema.names:
            raise UserError(f"{file} has no column '{column}', which {files[0]} has; open them apart")


def _meta(file: Path) -> pq.FileMetaData:
    with _named(file):
        return pq.read_metadata(file)


def _values(file: Path, column: str) -> list[Any]:
    with _named(file):
        return pq.read_table(file, columns=[column]).column(column).to_pylist()  # type: ignore[no-any-return]


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """What Arrow says of a damaged file, in one line with its name."""
    try:
        yield
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        short = " ".join(str(error).split())[:150]
        raise UserError(f"cannot read {file} as Parquet: {short}; is it complete?") from None


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` noted about the columns; empty where it wrote nothing."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def class_names(feature: Any) -> list[str]:
    """Names of a ClassLabel feature."""
    return list(feature.get("names") or ()) if isinstance(feature, Mapping) else []


_NAMED = {
    "image": ("Image", r"image|img|jpe?g|png|picture|photo"),
    "audio": ("Audio", r"audio|sound|speech|wav|flac|mp3"),
    "video": ("Video", r"video|clip|mp4"),
}
"""of each kind: its feature in `datasets`, and usual names of its column"""


def binary_column(kind: str, schema: pa.Schema, features: Mapping[str, Any], where: str) -> str:
    """The column that holds encoded samples: noted as of this kind, or named so, or for images the first with bytes."""
    able = [field.name for field in schema if _is_binary(field.type)]
    feature, names = _NAMED.get(kind, (kind.title(), kind))
    noted = [name for name in able if feature in str(features.get(name))]
    named = [name for name in able if re.fullmatch(names, name.lower())]
    for found in (noted, named, able if kind == "image" else []):
        if found:
            return found[0]
    what = "images" if kind == "image" else kind
    raise UserError(f"no column of {where} holds encoded {what}, only {', '.join(schema.names)}; name one '{kind}'")


def text_column(schema: pa.Schema, where: str, alone: bool) -> str:
    """The column that holds text, alone or beside something else."""
    able = [field.name for field in schema if _is_text(field.type)]
    lower = {name.lower(): name for name in able}
    found = next((lower[name] for name in (TEXTS if alone else CAPTIONS) if name in lower), None)
    if found is None:
        raise UserError(f"no column of {where} holds text, only {', '.join(schema.names)}; name one 'text'")
    return found


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Of texts, perhaps of few different ones (a dictionary)."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)  # type: ignore[no-any-return]


def _is_class(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(kind) or pa.types.is_integer(plain) or pa.types.is_boolean(plain)  # type: ignore[no-any-return]


def label_column(schema: pa.Schema, features: Mapping[str, Any]) -> str | None:
    """The column that holds class labels, if any."""
    usual = [name for name in ("label", "labels", "fine_label", "class", "target", "y") if name in schema.names]
    noted = [name for name in schema.names if class_names(features.get(name))]
    for able in (_is_class, pa.types.is_floating):  # whole numbers are floats where a program had some missing
        for name in (*(name for name in usual if name in noted), *noted, *usual):
            if able(schema.field(name).type):
                return name
    return None


class BytesArray:
    """Random access to the values of a binary Arrow array, or of its field `bytes`, without copying."""

    def __init__(self, array: pa.Array) -> None:
        if pa.types.is_struct(array.type):
            array = pc.struct_field(array, "bytes")
        if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
            array = array.cast(pa.large_binary())
        width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
        _, offsets, data = array.buffers()
        self.offsets = np.frombuffer(offsets, width)[array.offset : array.offset + len(array) + 1]
        self.data = memoryview(data or b"").cast("B")  # Arrow calls its bytes signed
        self.valid = np.asarray(array.is_valid()) if array.null_count else None

    def __getitem__(self, row: int) -> memoryview:
        if self.valid is not None and not self.valid[row]:
            raise ValueError("nothing in this row")
        return self.data[self.offsets[row] : self.offsets[row + 1]]


class ParquetStore:
    """The samples in a column of several files; the row groups read last are kept unpacked, up to 1 GiB."""

    def __init__(self, files: Sequence[Path], metas: Sequence[pq.FileMetaData], column: str) -> None:
        self.files, self.metas, self.column = files, metas, column
        groups = [(file, group) for file, meta in enumerate(metas) for group in range(meta.num_row_groups)]
        rows = [metas[file].row_group(group).num_rows for file, group in groups]
        self.groups = [group for group, count in zip(groups, rows) if count]
        self.starts = [0, *itertools.accumulate(count for count in rows if count)]
        self.sizes = [self._size(file, group) for file, group in self.groups]
        self._kept: OrderedDict[int, BytesArray] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def blocks(self) -> Blocks | None:
        """Row groups, where they do not fit in memory together."""
        total = sum(self.sizes)
        if total <= MEMORY:
            return None
        # Half of the memory for one window, so that the next one can come in while it is still read.
        window = max(1, MEMORY * len(self.sizes) // (2 * total))
        return Blocks(torch.repeat_interleave(torch.tensor(self.starts).diff()), window)

    def name(self, row: int) -> str:
        """File and row."""
        file, group = self.groups[self._group(row)]
        before = sum(self.metas[file].row_group(i).num_rows for i in range(group))
        return f"{self.files[file].name} row {before + row - self.starts[self._group(row)]}"

    def read(self, row: int) -> memoryview:
        """The bytes of one sample."""
        number = self._group(row)
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
            else:
                self._load(number)
            array = self._kept[number]
        return array[row - self.starts[number]]

    def _group(self, row: int) -> int:
        return bisect_right(self.starts, row) - 1

    def _size(self, file: int, group: int) -> int:
        meta = self.metas[file].row_group(group)
        with _named(self.files[file]):
            columns = [meta.column(i) for i in range(meta.num_columns)]
            return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == self.column)

    def _load(self, number: int) -> None:
        file, group = self.groups[number]
        with pq.ParquetFile(self.files[file], metadata=self.metas[file], memory_map=True) as parquet:
            array = parquet.read_row_group(group, columns=[self.column]).column(self.column).combine_chunks()
        self._kept[number] = BytesArray(array)
        self._used += self.sizes[number]
        while self._used > MEMORY and len(self._kept) > 1:
            old, _ = self._kept.popitem(last=False)
            self._used -= self.sizes[old]
