"""A folder of images, labelled by sub-folder or not at all."""

from pathlib import Path

from nolabel.data.files import FileStore, Walk, identity
from nolabel.data.listing import SPLITS, Listing, number


def listings(root: Path, found: Walk) -> dict[str, Listing]:
    """The splits of a folder.

    Sub-folders `train` and `test` (or `val`, `valid`, `validation`) are splits if there is nothing beside them. Within
    a split the first level of sub-folders are the classes if there are at least two and no image lies beside them.
    """
    split_of = {top: SPLITS.get((top or "").lower()) for top in set(_level(found.images, 0))}
    paths: dict[str, list[str]] = {"train": found.images}
    depth = 0
    if "train" in split_of.values() and None not in split_of.values():
        paths, depth = {}, 1
        for path in found.images:
            paths.setdefault(split_of[path.split("/", 1)[0]] or "", []).append(path)
    folders = {split: _level(names, depth) for split, names in paths.items()}
    labelled = {split for split, tops in folders.items() if None not in tops and len(set(tops)) > 1}
    classes = sorted({str(top) for split in labelled for top in folders[split]})
    result = {}
    for split, names in paths.items():
        result[split] = listing = Listing(FileStore(root, names), identity(root, names))
        if split in labelled:
            listing.labels, listing.classes = number(folders[split], classes)
        elif len(set(folders[split])) > 2:
            beside = folders[split].count(None)
            listing.notes.append(f"no labels in '{split}': {beside} images lie beside the sub-folders")
    result["train"].skipped += found.unreadable
    return result


def _level(paths: list[str], depth: int) -> list[str | None]:
    """The folder of each path at a depth, None where the file itself lies there."""
    parts = (path.split("/", depth + 1) for path in paths)
    return [part[depth] if len(part) > depth + 1 else None for part in parts]
