"""A cheap k-NN monitor for the progress bar: a fixed random subset of the training split, never the test split.

It tells a run that learns from one that does not. It is no result: the bank is small, and nothing may be chosen by it
and then be reported as an evaluation.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from nolabel.core import UserError
from nolabel.core.random import fold, generator
from nolabel.evaluate.features import Split, Transform, extract
from nolabel.evaluate.knn import KNN

_SUBSET = 0x0711
"""purpose of the seed"""


@dataclass(eq=False)
class OnlineKNN:
    """`monitor(encoder)` is the k-NN accuracy in percent of `queries` training samples against `bank` others.

    The samples are a function of `seed`, so curves of one run, and of runs that share the seed, compare point by point.
    Small sets are shared out 4 : 1.
    """

    split: Split
    transform: Transform
    device: torch.device | str = "cpu"
    precision: str = "auto"
    bank: int = 4000
    queries: int = 1000
    seed: int = 0
    knn: KNN = field(default_factory=KNN)

    def __post_init__(self) -> None:
        if not self.split.classes:
            raise UserError("the k-NN monitor needs labels and the data has none; train without it")
        if len(self.split) < 2:
            raise UserError("the k-NN monitor needs at least 2 labelled samples; train without it")
        queries = max(1, min(self.queries, len(self.split) // 5))
        order = torch.randperm(len(self.split), generator=generator(fold(self.seed, _SUBSET)))
        self.query_rows = order[:queries].sort().values
        self.bank_rows = order[queries:][: self.bank].sort().values

    def __call__(self, encoder: nn.Module) -> float:
        """Top-1 in percent."""
        (bank, y), (queries, truth) = (
            extract(encoder, self.split, self.transform, self.device, self.precision, rows=rows).labelled()
            for rows in (self.bank_rows, self.query_rows)
        )
        return self.knn.accuracy(*(t.to(self.device) for t in (bank, y, queries, truth)))["top1"]
