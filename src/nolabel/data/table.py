"""Tables of texts and of files: .csv, .tsv and .jsonl, one sample a row."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nolabel.core import UserError
from nolabel.data.columns import Column, Store
from nolabel.data.files import KIND, STORES, Strings, file_identity, identity
from nolabel.data.listing import Listing, as_label, split_of

FILES = ("file_name", "filename", "file", "path", "image", "video", "audio", "filepath", "image_path")
"""names of the column that holds the path of a file, relative to the table"""
TEXTS = ("text", "caption", "sentence", "content", "description", "title")
"""names of the column that holds text"""
CAPTIONS = ("caption", "captions", "text", "description", "sentence", "title")
"""the same where the text goes with something else"""
LABELS = ("label", "labels", "class", "target", "category")

Row = tuple[Path, int, dict[str, Any]]
"""table, number in it, and cells by column"""


def names_files(path: Path) -> bool:
    """Whether a table has a column of paths, from its first rows."""
    rows = _rows(path, limit=100)
    key = _column(rows, FILES) or ""
    return any(os.path.splitext(str(row.get(key)))[1].lower() in KIND for row in rows)


def listings(files: Sequence[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of some tables, by the words train, test, validation in their names, or by a column `split`.

    A row is a text with its label, or the path of a file with its text and label; a row without its path is left out.
    Raises UserError where a wanted column is missing.
    """
    found: dict[str, list[Row]] = {}
    for file in files:
        named = (split_of(file.stem) or "") if len(files) > 1 else ""
        for number, row in enumerate(_rows(file)):
            said = row.get("split")
            split = (split_of(said) or said) if isinstance(said, str) else named
            found.setdefault(split, []).append((file, number, row))
    if not found:
        raise UserError(f"{files[0]} has no rows")
    return {split: _listing(split, rows, files, columns) for split, rows in found.items()}


def _listing(split: str, rows: list[Row], files: Sequence[Path], columns: Sequence[str]) -> Listing:
    first_file, cells = rows[0][0], [row for _, _, row in rows]
    others = [name for name in columns if name != "text"]
    stores: dict[str, Store | Column] = {}
    skipped: list[tuple[str, str]] = []
    stamp = f"{file_identity(files)} {split}"
    if others:
        key = _column(cells, FILES)
        if key is None:
            raise UserError(f"{first_file} has no column that names files, only {_keys(cells)}; name it file_name")
        root = first_file.parent
        skipped = [(f"{f.name} row {number}", f"no path in {key}") for f, number, r in rows if not _is_path(r.get(key))]
        rows = [(file, number, row) for file, number, row in rows if _is_path(row.get(key))]
        cells = [row for _, _, row in rows]
        if not rows:
            raise UserError(f"no row of {first_file} names a file in its column {key}; write paths there")
        paths = [os.path.relpath(file.parent / row[key], root) for file, _, row in rows]
        stamp += identity(root, paths)
        stores = {name: STORES[name](root, paths) for name in others}
    if "text" in columns:
        key = _column(cells, CAPTIONS if others else TEXTS)
        if key is None:
            raise UserError(f"{first_file} has no column of text, only {_keys(cells)}; name it text")
        texts = [_text(row.get(key)) for row in cells]
        stores["text"] = Strings(texts, first_file.name if len(files) == 1 else split or "table")
    listing = Listing(stores, stamp, skipped=skipped)
    if label := _column(cells, LABELS):
        values = [row.get(label) for row in cells]
        listing.label(as_label(v) if isinstance(v, str) else v for v in values)
    return listing


def _column(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> str | None:
    """The first of `names` that any row has, as it is written there."""
    lower = {str(key).lower(): key for row in rows for key in row}
    return next((lower[name] for name in names if name in lower), None)


def _keys(rows: Iterable[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(key)[:40] for row in rows for key in row))[:200]


def _is_path(value: Any) -> bool:
    """Whether a cell can be the path of a file."""
    try:
        return isinstance(value, str) and bool(value.strip()) and "\0" not in value and bool(os.fsencode(value))
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False


def _text(value: Any) -> str | None:
    first = next(iter(value), None) if isinstance(value, list) else value
    return first if isinstance(first, str) else None


def _rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The rows of a table. Raises UserError where one cannot be read, with its line."""
    rows: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                for line_number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise UserError(f"{path} line {line_number} is no JSON: {str(error)[:150]}") from None
                    rows.append(row if isinstance(row, dict) else {"text": row})
                    if limit and len(rows) == limit:
                        break
            else:
                lines = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                try:
                    for row in lines:
                        rows.append({k: v for k, v in row.items() if k is not None})
                        if limit and len(rows) == limit:
                            break
                except csv.Error as error:  # a cell of more than 128 KiB: a quote that is never closed, or a long text
                    hint = "close its quotes, or write .jsonl"
                    raise UserError(f"{path} line {lines.line_num} is no row of a table: {error}; {hint}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    return rows
