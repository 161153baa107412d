"""Labelled data without a test split: a part of it is held out, the same part every time."""

import numpy as np
import torch
from torch import Tensor

from nolabel.data.split import Data

MOST = 10_000


def held_out(labels: Tensor, fraction: float) -> Tensor:
    """Which samples are for testing (N,) bool: `fraction` of those with a label, 1 to 10,000, by a hash of their number.

    None where `fraction` is 0, or where no sample with a label would be left to train on.
    """
    # The finaliser of splitmix64: random enough, and a function of the row number alone.
    x = np.arange(1, len(labels) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    rows = np.flatnonzero(labels.numpy() >= 0)
    number = min(MOST, max(1, round(fraction * len(rows))), len(rows) - 1) if fraction > 0 and len(rows) else 0
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.from_numpy(rows[np.argsort(x[rows], kind="stable")[:number]])] = True
    return chosen


def hold_out(data: Data, labels: Tensor, fraction: float) -> None:
    """Move `fraction` of the training samples of `data` to "test"; `labels` (N,) are those of all rows in the files."""
    whole = data.splits["train"]
    held = held_out(labels, fraction)
    held = held if whole.origin is None else held[whole.origin]
    if not held.any() or held.all():
        return
    train, test = (whole.part(mask.nonzero()[:, 0], name) for mask, name in ((~held, "train"), (held, "test")))
    train.skipped = whole.skipped
    data.splits = {"train": train, "test": test}
    data.notes.append(f"{len(test)} labelled images are held out as 'test', chosen by a hash of their number")
