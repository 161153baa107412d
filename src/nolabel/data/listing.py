"""What a format finds when it lists a data set, before anything is decoded; and the rules every format shares."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nolabel.data.columns import Column, Store
from nolabel.data.split import Blocks


@dataclass
class Listing:
    """One split as it was found: samples still encoded (a store) or as an array of their own (a column)."""

    columns: dict[str, Store | Column]
    """equally long"""
    identity: str
    """changes whenever the samples do: part of the name of the cache"""
    labels: Tensor | None = None
    """(N,) int64, -1 for none"""
    classes: tuple[str, ...] = ()
    blocks: Blocks | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: Tensor | None = None
    """(N,) int64: rows of one group, such as the pieces of one recording, are all for training or all for testing"""
    rates: dict[str, float] = field(default_factory=dict)
    """samples or frames a second of columns that are arrays"""
    tokenizer: Any = None
    """of text that comes with one"""

    @property
    def rows(self) -> int:
        """N."""
        return len(next(iter(self.columns.values())))

    @property
    def labelled(self) -> bool:
        """Whether any sample has a label."""
        return self.labels is not None and bool((self.labels >= 0).any())

    def label(self, found: Iterable[Any], classes: Iterable[str] = ()) -> None:
        """Number the labels of the rows, see `number`; None, an empty text and NaN are none.

        What can be no class (a list) is not used, and a note counts it. Where there are fractions none is: these are
        measurements.
        """
        labels, odd = [], []
        found = list(found)
        if part := [each for each in found if isinstance(each, float) and math.isfinite(each) and each % 1]:
            self.notes.append(f"labels such as {part[0]:g} are no classes: not used")
            return
        for each in found:
            if isinstance(each, float) and each.is_integer():  # tables keep whole numbers so where some are missing
                each = int(each)
            none = each is None or each == "" or each != each
            good = isinstance(each, int | str) and not none
            labels.append(each if good else None)
            odd += [] if good or none else [each]
        if odd:
            self.notes.append(f"{len(odd):,} labels are no class, such as {str(odd[0])[:40]}: not used")
        names = tuple(classes)
        if names or any(label is not None for label in labels):
            self.labels, self.classes = number(labels, names)


SPLITS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
}
"""words in the names of files, folders and keys that tell their split"""


def split_of(name: str) -> str | None:
    """Which split a file, folder or key is named after, if any: "train-00000-of-00002.parquet" -> "train"."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS), None)


def for_training(found: Mapping[str, Listing]) -> str:
    """The split to train on: "train", else what has no split of its own (`""`), else the first."""
    return "train" if "train" in found else "" if "" in found else next(iter(found))


def train_and_test(found: dict[str, Listing]) -> dict[str, Listing]:
    """Keep "train" and the best of the others as "test": one with labels, "test" before "validation".

    "train" is what `for_training` names.
    """
    found = dict(found)
    train = found.pop(for_training(found))
    able = [split for split in found if split_of(split) in ("test", "validation")]
    able = [split for split in able if found[split].labelled or not train.labelled]
    splits = {"train": train}
    if able:
        best = min(able, key=lambda split: (not found[split].labelled, split_of(split) != "test"))
        splits["test"] = found.pop(best)
        _align(train, splits["test"])
        if best != "test":
            train.notes.append(f"split '{best}' serves as test")
    if found:
        train.notes.append(f"not used: split {', '.join(name or 'without a name' for name in found)}")
    return splits


def _align(train: Listing, test: Listing) -> None:
    """Number the classes of both splits alike, by name."""
    if train.labels is None or test.labels is None or train.classes == test.classes:
        return
    classes = (*train.classes, *(name for name in test.classes if name not in train.classes))
    place = torch.tensor([classes.index(name) for name in test.classes] + [-1])  # the last for no label: -1
    test.labels = place[test.labels]
    train.classes = test.classes = classes


def as_label(text: str) -> int | str:
    """A label that was written as text: a number where it is one."""
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else text


def number(labels: Sequence[Any], classes: Iterable[str] = ()) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as found (numbers, names, None) -> (N,) int64 with -1 for none, and the names of the classes.

    Numbers are kept and named by `classes` as far as these go, unless they are too wide to be a count of classes: then
    the distinct ones are the classes. Names are numbered in the order of `classes`, or else in that of the alphabet.
    """
    classes = tuple(classes)
    known = {label for label in labels if label is not None}
    if all(isinstance(label, int) for label in known):
        most = max(known, default=-1)
        if most < max(len(classes), 1000 + 2 * len(labels)):
            values = [-1 if label is None else max(-1, label) for label in labels]
            return torch.tensor(values, dtype=torch.int64), (*classes, *map(str, range(len(classes), most + 1)))
        classes = tuple(map(str, sorted(label for label in known if label >= 0)))
    classes = classes or tuple(sorted(map(str, known)))
    place = {name: i for i, name in enumerate(classes)}
    return torch.tensor([place.get(str(label), -1) for label in labels], dtype=torch.int64), classes
