"""Holes in images for context encoders (Pathak et al., CVPR 2016, section 3.3). True is hidden.

Shapes: B images of S x S pixels; a mask is bool (B, 1, S, S). Every sample has a hole of its own, but for the centre.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Hole = Literal["center", "blocks", "shapes"]


def holes(kind: Hole, count: int, side: int, device: torch.device) -> Tensor:
    """Masks that hide a quarter of each image: exactly for the centre, 20 to 30 % for blocks, a quarter for shapes.

    center  the square of half the side in the middle
    blocks  squares of a quarter of the side at random places, as many as come nearest to a quarter
    shapes  the lowest quarter of smooth noise, made from a grid of 6 % of the side
    """
    if kind == "center":
        middle = torch.zeros(count, 1, side, side, dtype=torch.bool, device=device)
        edge = (side - side // 2) // 2
        middle[..., edge : edge + side // 2, edge : edge + side // 2] = True
        return middle
    return (_blocks if kind == "blocks" else _shapes)(count, side, device)


def _blocks(count: int, side: int, device: torch.device, most: int = 12) -> Tensor:
    block = max(1, side // 4)
    corner_2BM = (torch.rand(count, 2, most, device=device) * (side - block + 1)).floor().unbind(1)
    pixel_S = torch.arange(side, device=device)
    down, right = (pixel_S - corner_BM[..., None] for corner_BM in corner_2BM)
    rows_BMS, columns_BMS = (((away >= 0) & (away < block)) for away in (down, right))
    each_BMSS = rows_BMS[..., :, None] & columns_BMS[..., None, :]
    grown_BMSS = each_BMSS.cumsum(1) > 0  # after one block, two, three ...
    miss_BM = (grown_BMSS.float().mean((2, 3)) - 0.25).abs()
    best_B = miss_BM.argmin(1)
    return grown_BMSS[torch.arange(count, device=device), best_B][:, None]


def _shapes(count: int, side: int, device: torch.device) -> Tensor:
    coarse = max(2, round(0.06 * side))
    noise = F.interpolate(torch.rand(count, 1, coarse, coarse, device=device), side, mode="bicubic")
    rank = noise.flatten(1).argsort(1).argsort(1)
    return (rank < side * side // 4).view(count, 1, side, side)


def band(hole: Tensor, width: int) -> Tensor:
    """The pixels around a hole, up to `width` away from it."""
    if width == 0:
        return torch.zeros_like(hole)
    grown = F.max_pool2d(hole.float(), 2 * width + 1, stride=1, padding=width) > 0
    return grown & ~hole
