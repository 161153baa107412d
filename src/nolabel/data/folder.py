"""A folder of files, labelled by sub-folder or not at all; with captions in a table or beside each file."""

import os
from collections.abc import Sequence
from pathlib import Path

from nolabel.core import UserError
from nolabel.data import table
from nolabel.data.columns import Column, Store
from nolabel.data.files import STORES, TextStore, Walk, identity
from nolabel.data.listing import SPLITS, Listing

_UNLABELLED = ("unlabeled", "unlabelled", "extra")
"""names of sub-folders, beside those of splits, whose files have no labels"""


def listings(root: Path, found: Walk, columns: Sequence[str]) -> dict[str, Listing] | None:
    """The splits of a folder, or None where it has no files of the kind.

    Sub-folders `train` and `test` (or `val`, `valid`, `validation`) are splits if there is nothing beside them but
    perhaps `unlabeled` (`unlabelled`, `extra`), whose files are for training, without labels. Within a split the first
    level of sub-folders are the classes if there are at least two and no file lies beside them.
    Sound without pictures may be that of videos. A text beside pictures or sound is that of a table that names the files
    (`table.listings`), or lies in a .txt of the same name.
    """
    main = [name for name in columns if name != "text"] or ["text"]
    kind = "video" if "video" in main or (main == ["audio"] and "audio" not in found.files) else main[0]
    if kind not in found.files:
        return None
    if "text" in columns and main != ["text"]:
        tables = [name for name in found.files.get("table", ()) if table.names_files(root / name)]
        if tables:
            return table.listings([root / name for name in tables], columns)
    names = found.files[kind]
    beside = {os.path.splitext(name)[0]: name for name in found.files.get("text", ())}
    captioned = "text" in columns and main != ["text"]
    if captioned:
        names = [name for name in names if os.path.splitext(name)[0] in beside]
        if not names:
            raise UserError(f"no captions in {root}: neither a table with file_name and text, nor a .txt beside a file")
    result = _splits(root, names, main)
    for listing in result.values() if captioned else ():
        own = [beside[os.path.splitext(name)[0]] for name in listing.columns[main[0]].names]  # type: ignore[union-attr]
        listing.columns["text"] = TextStore(root, own)
        listing.identity += identity(root, own)
    result["train" if "train" in result else next(iter(result))].skipped += found.unreadable
    return result


def _splits(root: Path, names: list[str], columns: Sequence[str]) -> dict[str, Listing]:
    tops = _level(names, 0)
    free = {top for top in tops if top and top.lower() in _UNLABELLED}
    split_of = {top: "train" if top in free else SPLITS.get((top or "").lower()) for top in set(tops)}
    paths: dict[str, list[str]] = {"train": names}
    depth = 0
    if "train" in split_of.values() and None not in split_of.values():
        paths, depth = {}, 1
        for path, top in zip(names, tops):
            paths.setdefault(split_of[top] or "", []).append(path)
    else:
        free = set()
    unlabelled = {path for path, top in zip(names, tops) if top in free}
    folders = {split: _level([n for n in names if n not in unlabelled], depth) for split, names in paths.items()}
    labelled = {split for split, tops in folders.items() if None not in tops and len(set(tops)) > 1}
    classes = sorted({str(top) for split in labelled for top in folders[split]})
    what = "images" if columns[0] == "image" else "files"
    result = {}
    for split, names in paths.items():
        stores: dict[str, Store | Column] = {name: STORES[name](root, names) for name in columns}
        result[split] = listing = Listing(stores, identity(root, names))
        if split in labelled:
            own = iter(folders[split])
            listing.label([None if name in unlabelled else next(own) for name in names], classes)
            if more := len(names) - len(folders[split]):
                listing.notes.append(f"{more:,} {what} of '{', '.join(sorted(free))}' are for training, without labels")
        elif len(set(folders[split])) > 2:
            beside = folders[split].count(None)
            listing.notes.append(f"no labels in '{split}': {beside} {what} lie beside the sub-folders")
    return result


def _level(paths: list[str], depth: int) -> list[str | None]:
    """The folder of each path at a depth, None where the file itself lies there."""
    parts = (path.split("/", depth + 1) for path in paths)
    return [part[depth] if len(part) > depth + 1 else None for part in parts]
