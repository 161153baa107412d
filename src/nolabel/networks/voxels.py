"""Point clouds as grids of occupied cells, and a small convolutional net on them.

Shapes: B clouds, P points, S cells a side, C channels.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn


@torch.no_grad()
def voxelise(x_BP3: Tensor, side: int) -> Tensor:
    """Occupied cells (B, 1, S, S, S), 0 or 1, of the cube about the origin that just holds the cloud."""
    reach_B11 = x_BP3.abs().amax((1, 2), keepdim=True).clamp(min=1e-9)
    cell_BP3 = ((x_BP3 / reach_B11 + 1) * (side / 2)).long().clamp(0, side - 1)
    number_BP = (cell_BP3[..., 0] * side + cell_BP3[..., 1]) * side + cell_BP3[..., 2]
    cells = torch.zeros(len(x_BP3), side**3, device=x_BP3.device)
    return cells.scatter(1, number_BP, 1.0).view(-1, 1, side, side, side)


class VoxelNet(nn.Module):
    """3-D convolutions of stride 2 on the occupied cells of a cloud: (B, P, 3) -> (B, D), D four times `width`."""

    def __init__(self, side: int, width: int):
        super().__init__()
        self.side, self.dim = side, 4 * width
        layers: list[nn.Module] = []
        for a, b in pairwise((1, width, 2 * width, 4 * width)):
            layers += [nn.Conv3d(a, b, 3, 2 if a > 1 else 1, 1, bias=False), nn.GroupNorm(4, b), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(voxelise(x, self.side)).amax((2, 3, 4))
