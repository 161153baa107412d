"""A small pyramid transformer whose tokens can be dropped, for UM-MAE: attention over maps that shrink stage by stage.

Shapes: B batch, C channels, S side of the image in pixels, L units, K of them kept, P values a unit, D features, s x s
map, W width of a stage.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.encoders.sizes import divided
from nolabel.networks.transformer import attend, sincos_positions, xavier

POOLED = 4
"""side of the map that queries look at, where the map is larger"""


class PyramidBlock(nn.Module):
    """Pre-LN block on a map; keys and values come from the map pooled to 4 x 4 (PVT v2, Wang et al. 2022, linear SRA)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.fused_attn = heads, True  # plain where the engine finds that faster
        self.norm1, self.norm2, self.norm_pooled = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BssW: Tensor) -> Tensor:
        h_BssW = self.norm1(x_BssW)
        pooled_BWpp = F.adaptive_avg_pool2d(h_BssW.permute(0, 3, 1, 2), min(POOLED, x_BssW.shape[1]))
        q_BHLd = self._split(self.query(h_BssW).flatten(1, 2))
        key, value = self.key_value(self.norm_pooled(pooled_BWpp.flatten(2).mT)).chunk(2, -1)
        seen_BHLd = attend(q_BHLd, self._split(key), self._split(value), self.fused_attn)
        x_BssW = x_BssW + self.out(seen_BHLd.transpose(1, 2).flatten(2)).view_as(x_BssW)
        return x_BssW + self.mlp(self.norm2(x_BssW))

    def _split(self, x_BLW: Tensor) -> Tensor:
        return x_BLW.unflatten(2, (self.heads, -1)).transpose(1, 2)


class TinyPyramid(nn.Module):
    """Three stages at 1/2, 1 and 2 units a token, after PVT (Wang et al., ICCV 2021): a TokenEncoder on 8 x 8 units.

    A unit, an eighth of the side, has 2 x 2 patches. Its token is the four of them side by side, with positions; any
    K = s^2 units in the order of an s x s map can be encoded, s even. Pooled keys make windows unnecessary: a quarter
    of the units pools by half as much, as the authors of UM-MAE halve the reduction. `merge` units make one token.
    """

    merge = 4
    positions: Tensor

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        widths: tuple[int, int, int] = (32, 64, 128),
        depths: tuple[int, ...] = (1, 1, 2),
    ):
        super().__init__()
        divided("tiny_pyramid", size, 16)
        self.size, self.channels, self.dim, self.token_dim = size, channels, widths[-1], 4 * widths[0]
        self.patch, self.grid = size // 8, (8, 8)
        self.length, self.patch_dim = 64, self.patch**2 * channels
        self.stem = nn.Conv2d(channels, widths[0], self.patch // 2, self.patch // 2)
        self.register_buffer("positions", sincos_positions(widths[0], (16, 16)).view(16, 16, -1), persistent=False)
        self.stages = nn.ModuleList(
            nn.Sequential(*(PyramidBlock(width, max(1, width // 32)) for _ in range(depth)))
            for width, depth in zip(widths, depths)
        )
        self.shrink = nn.ModuleList(nn.Linear(4 * a, b) for a, b in pairwise(widths))
        self.norm = nn.LayerNorm(self.dim)
        self.apply(xavier)

    def patchify(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) -> (B, L, P), units row by row, in each the order (row, column, channel)."""
        return _join(x.permute(0, 2, 3, 1), self.patch).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(B, L, P) -> (B, C, S, S), the inverse of `patchify`."""
        return _part(patches.unflatten(1, self.grid), self.patch).permute(0, 3, 1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) -> units with positions (B, L, 4 W)."""
        x_BssW = self.stem(x).permute(0, 2, 3, 1)
        positions_ssW = self.positions
        if x_BssW.shape[1] != len(positions_ssW):
            positions_ssW = sincos_positions(x_BssW.shape[-1], tuple(x_BssW.shape[1:3])).to(x_BssW.device)
            positions_ssW = positions_ssW.view(*x_BssW.shape[1:])
        return _join(x_BssW + positions_ssW, 2).flatten(1, 2)

    def merged(self, tokens: Tensor) -> Tensor:
        """Units (B, K, 4 W) in the order of a square map -> the last map (B, K / merge, D), row by row."""
        side = math.isqrt(tokens.shape[1])
        if side**2 != tokens.shape[1] or side % 2:
            raise UserError(
                f"tiny_pyramid needs units that make a square map of even side, not {tokens.shape[1]} of them"
            )
        x_BssW = _part(tokens.unflatten(1, (side, side)), 2)
        for i, stage in enumerate(self.stages):
            x_BssW = stage(self.shrink[i - 1](_join(x_BssW, 2)) if i else x_BssW)
        return self.norm(x_BssW).flatten(1, 2)

    def encode(self, tokens: Tensor) -> Tensor:
        """Units (B, K, 4 W) as for `merged` -> (B, 1 + K, D): the mean of the last map, then its token for each unit."""
        map_BTD = self.merged(tokens)
        side = math.isqrt(map_BTD.shape[1])
        map_BssD = map_BTD.unflatten(1, (side, side)).repeat_interleave(2, 1).repeat_interleave(2, 2)
        return torch.cat((map_BTD.mean(1, keepdim=True), map_BssD.flatten(1, 2)), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) -> features (B, D), the mean of the last map."""
        return self.merged(self.embed(x)).mean(1)


def _join(x_BssW: Tensor, side: int) -> Tensor:
    """Cells of `side` x `side` become one place with their values side by side."""
    b, height, width, _ = x_BssW.shape
    return x_BssW.reshape(b, height // side, side, width // side, side, -1).transpose(2, 3).flatten(3)


def _part(x_BssW: Tensor, side: int) -> Tensor:
    """The inverse of `_join`."""
    b, height, width, _ = x_BssW.shape
    return x_BssW.reshape(b, height, width, side, side, -1).transpose(2, 3).reshape(b, height * side, width * side, -1)
