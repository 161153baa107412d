"""Labelled data without a test split: a part of it is held out, the same part every time."""

import numpy as np
import torch
from torch import Tensor

from nolabel.data.split import Data

MOST = 10_000


def held_out(labels: Tensor, fraction: float, groups: Tensor | None = None) -> Tensor:
    """Which samples are for testing (N,) bool: `fraction` of those with a label, 1 to 10,000, by a hash of their number.

    Samples of one of the `groups` (N,) stay together: then whole groups are taken, by a hash of their number, as long as
    the `fraction` is not reached. None where `fraction` is 0, or where no sample with a label would be left to train on.
    """
    rows = np.flatnonzero(labels.numpy() >= 0)
    number = min(MOST, max(1, round(fraction * len(rows))), len(rows) - 1) if fraction > 0 and len(rows) else 0
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    if groups is None:
        chosen[torch.from_numpy(rows[np.argsort(_hash(np.arange(len(labels)))[rows], kind="stable")[:number]])] = True
        return chosen
    of_row = groups.numpy()
    known, sizes = np.unique(of_row[rows], return_counts=True)
    order = np.argsort(_hash(known), kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = known[order[before < number]]
    if len(taken) == len(known):
        taken = taken[:-1]
    chosen[torch.from_numpy(np.isin(of_row, taken) & (labels.numpy() >= 0))] = True
    return chosen


def _hash(number: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: random enough, and a function of the number alone."""
    x = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hold_out(data: Data, labels: Tensor, fraction: float, groups: Tensor | None = None) -> None:
    """Move `fraction` of the training samples of `data` to "test"; `labels` (N,) are those of all rows in the files."""
    whole = data.splits["train"]
    held = held_out(labels, fraction, groups)
    held = held if whole.origin is None else held[whole.origin]
    if not held.any() or held.all():
        return
    train, test = (whole.part(mask.nonzero()[:, 0], name) for mask, name in ((~held, "train"), (held, "test")))
    train.skipped = whole.skipped
    data.splits = {"train": train, "test": test}
    what = "images" if "image" in whole.columns else "samples"
    labelled = "labelled " if whole.classes else ""
    data.notes.append(f"{len(test)} {labelled}{what} are held out as 'test', chosen by a hash of their number")
