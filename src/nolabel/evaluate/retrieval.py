"""Retrieval: for every test sample of one modality the one of another modality that belongs to it, by cosine.

    recall@k = share of the queries with a sample that belongs to them among their k nearest targets

Samples with the same text belong together, whichever of them was asked for. Works where both encoders end in one space;
the untrained encoders are the control, and `chance` stands in the settings.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.core.random import fold, generator
from nolabel.evaluate.features import EvalData

_POOL = 0x2E7
"""purpose of the seed"""


@dataclass(frozen=True)
class Retrieval:
    """Percent of the queries that find a partner among the nearest 1, 5 and 10: `r1`, `r5`, `r10`."""

    pool: int = 1000
    """targets to choose from; of a larger test split a random part"""

    name: ClassVar[str] = "retrieval"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("r1", "r5", "r10")
    labelled: ClassVar[bool] = False

    def __call__(
        self, query: nn.Module, target: nn.Module, queries: EvalData, targets: EvalData
    ) -> dict[str, float]:  # fmt: skip
        """Queries of one modality among targets of another, both of the test split."""
        a, b = queries.features(query, "test"), targets.features(target, "test")
        if a.x.shape[1] != b.x.shape[1]:
            raise UserError(f"features of {a.x.shape[1]} and {b.x.shape[1]} values lie in no common space")
        rows = torch.arange(len(queries.splits["test"])) if a.rows is None else a.rows
        order = torch.randperm(len(rows), generator=generator(fold(queries.seed, _POOL)))[: self.pool].sort().values
        group_N = _groups(queries, rows[order])
        return recall(a.x[order].to(queries.device), b.x[order].to(queries.device), group_N.to(queries.device))


def _groups(data: EvalData, rows: Tensor) -> Tensor:
    """A number for each row; rows with the same text have the same."""
    stored = data.splits["test"].take(rows)
    if "text" not in stored:
        return torch.arange(len(rows))
    return stored["text"].unique(dim=0, return_inverse=True)[1]  # type: ignore[no-any-return]


def recall(
    query_ND: Tensor, target_ND: Tensor, group_N: Tensor, tops: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Recall in percent of queries among targets; those of one group belong together.

    A target that does not belong and is as near as the best that does comes before it: ties are no hits.
    """
    s_NN = F.normalize(query_ND, dim=1) @ F.normalize(target_ND, dim=1).T
    own_NN = group_N[:, None] == group_N
    best_N1 = s_NN.masked_fill(~own_NN, -torch.inf).amax(1, keepdim=True)
    before_N = ((s_NN >= best_N1) & ~own_NN).sum(1)
    found = {f"r{k}": 100 * (before_N < k).double().mean().item() for k in tops}
    return {**found, "chance": 100 * own_NN.double().mean().item()}
