"""Neighbours and centres of point clouds, in plain torch.

Shapes: B clouds, P points, Q queries, C coordinates or channels, M centres, k neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def nearest(query_BQC: Tensor, points_BPC: Tensor, k: int) -> Tensor:
    """Numbers of the k points nearest to each query, nearest first: (B, Q, k). Distances are exact, not by products."""
    distance_BQP = torch.cdist(query_BQC, points_BPC, compute_mode="donot_use_mm_for_euclid_dist")
    return distance_BQP.topk(k, largest=False).indices


@torch.no_grad()
def farthest(points_BPC: Tensor, count: int) -> Tensor:
    """Farthest point sampling (Eldar et al. 1997; Qi et al., NeurIPS 2017): numbers (B, M), the first point first.

    Each next one is the point with the largest distance to all before.
    """
    chosen_B = torch.zeros(len(points_BPC), dtype=torch.long, device=points_BPC.device)
    chosen, gap_BP = [chosen_B], None
    for _ in range(count - 1):
        square_BP = (points_BPC - pick(points_BPC, chosen_B[:, None])).square().sum(2)
        gap_BP = square_BP if gap_BP is None else torch.minimum(gap_BP, square_BP)
        chosen_B = gap_BP.argmax(1)
        chosen.append(chosen_B)
    return torch.stack(chosen, 1)


def pick(x_BPC: Tensor, index: Tensor) -> Tensor:
    """Rows by number: (B, P, C) and (B, ...) -> (B, ..., C)."""
    return F.embedding(_flat(index, x_BPC), x_BPC.flatten(0, 1))  # faster than take_along_dim, which copies the index


def highest(x_BPC: Tensor, index_BQk: Tensor) -> Tensor:
    """The maximum of each channel over k rows: (B, P, C) and (B, Q, k) -> (B, Q, C).

    As a bag of embeddings: no (B, Q, k, C) is made, and the way back costs a tenth of that of `pick(...).amax(2)`.
    """
    bags = F.embedding_bag(_flat(index_BQk, x_BPC).flatten(0, 1), x_BPC.flatten(0, 1), mode="max")
    return bags.unflatten(0, index_BQk.shape[:2])


def _flat(index: Tensor, x_BPC: Tensor) -> Tensor:
    """Numbers of rows of clouds as numbers of rows of all clouds, one below the other."""
    start_B = torch.arange(len(x_BPC), device=index.device) * x_BPC.shape[1]
    return index + start_B.view(-1, *(1,) * (index.ndim - 1))
