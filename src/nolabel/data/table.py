"""Tables of texts and of files: .csv, .tsv and .jsonl, one sample a row."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nolabel.core import UserError
from nolabel.data.columns import Column, Store
from nolabel.data.files import KIND, STORES, Strings, file_identity, identity
from nolabel.data.listing import Listing, number, split_of

FILES = ("file_name", "filename", "file", "path", "image", "video", "audio", "filepath", "image_path")
"""names of the column that holds the path of a file, relative to the table"""
TEXTS = ("text", "caption", "sentence", "content", "description", "title")
"""names of the column that holds text"""
CAPTIONS = ("caption", "captions", "text", "description", "sentence", "title")
"""the same where the text goes with something else"""
LABELS = ("label", "labels", "class", "target", "category")


def names_files(path: Path) -> bool:
    """Whether a table has a column of paths, from its first row."""
    first = next(iter(_rows(path, limit=1)), {})
    return _column(first, FILES) is not None and Path(str(first[_column(first, FILES) or ""])).suffix.lower() in KIND


def listings(files: Sequence[Path], columns: Sequence[str]) -> dict[str, Listing]:
    """The splits of some tables, by the words train, test, validation in their names, or by a column `split`.

    A row is a text with its label, or the path of a file with its text and label. Raises UserError where a wanted column
    is missing.
    """
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for file in files:
        named = (split_of(file.stem) or "") if len(files) > 1 else ""
        for row in _rows(file):
            said = row.get("split")
            found.setdefault((split_of(said) or said) if isinstance(said, str) else named, []).append((file, row))
    if not found:
        raise UserError(f"{files[0]} has no rows")
    return {split: _listing(split, rows, files, columns) for split, rows in found.items()}


def _listing(
    split: str, rows: list[tuple[Path, dict[str, Any]]], files: Sequence[Path], columns: Sequence[str]
) -> Listing:
    first_file, first = rows[0]
    others = [name for name in columns if name != "text"]
    stores: dict[str, Store | Column] = {}
    stamp = f"{file_identity(files)} {split}"
    if others:
        key = _column(first, FILES)
        if key is None:
            raise UserError(f"{first_file} has no column that names files, only {', '.join(first)}; name it file_name")
        root = first_file.parent
        paths = [os.path.relpath(file.parent / str(row[key]), root) for file, row in rows]
        stamp += identity(root, paths)
        stores = {name: STORES[name](root, paths) for name in others}
    if "text" in columns:
        key = _column(first, CAPTIONS if others else TEXTS)
        if key is None:
            raise UserError(f"{first_file} has no column of text, only {', '.join(first)}; name it text")
        texts = [_text(row.get(key)) for _, row in rows]
        stores["text"] = Strings(texts, first_file.name if len(files) == 1 else split or "table")
    listing = Listing(stores, stamp)
    if label := _column(first, LABELS):
        values = [row.get(label) for _, row in rows]
        values = [int(v) if isinstance(v, str) and v.lstrip("-").isdigit() else None if v == "" else v for v in values]
        if any(v is not None for v in values):
            listing.labels, listing.classes = number(values)
    return listing


def _column(row: dict[str, Any], names: Sequence[str]) -> str | None:
    lower = {str(key).lower(): key for key in row}
    return next((lower[name] for name in names if name in lower), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else next(iter(value), None) if isinstance(value, list) else None


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
                    except ValueError as error:
                        raise UserError(f"{path} line {line_number} is no JSON: {error}") from None
                    rows.append(row if isinstance(row, dict) else {"text": row})
                    if limit and len(rows) == limit:
                        break
            else:
                for row in csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
                    rows.append({k: v for k, v in row.items() if k is not None})
                    if limit and len(rows) == limit:
                        break
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    return rows
