"""Noise on samples, with a record of what it hit.

Shapes: x (B, ...), n coordinates a sample; the record is bool like x, True where a coordinate was chosen.
"""

from typing import Literal

import torch
from torch import Tensor

Noise = Literal["gauss", "mask", "salt"]


def corrupt(x: Tensor, kind: Noise, level: float, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """A noisy copy of x and the coordinates J that were chosen (Vincent et al., ICML 2008; JMLR 2010, section 3.3).

    gauss  adds a normal deviate of standard deviation `level` to every coordinate
    mask   sets exactly round(level n) coordinates of each sample, chosen anew, to 0
    salt   sets as many to `low` or `high`, by a fair coin; a coordinate counts also where its value stays
    """
    if kind == "gauss":
        return x + level * torch.randn_like(x), torch.ones_like(x, dtype=torch.bool)
    flat_BN = x.flatten(1)
    number = round(level * flat_BN.shape[1])
    chosen_BM = torch.rand_like(flat_BN, dtype=torch.float32).argsort(1)[:, :number]
    hit = torch.zeros_like(flat_BN, dtype=torch.bool).scatter_(1, chosen_BM, True).view_as(x)
    if kind == "mask":
        return x.masked_fill(hit, 0.0), hit
    return torch.where(hit, torch.where(torch.rand_like(x) < 0.5, low, high).to(x.dtype), x), hit
