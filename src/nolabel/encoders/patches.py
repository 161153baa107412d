"""A transformer on patches of anything that lies on a grid: tubes of video, patches of a spectrogram.

Shapes: B batch, C channels, L patches, K kept patches, P values a patch, D width.
"""

import math

import torch
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.networks.transformer import Transformer, sincos_positions, xavier


class PatchEncoder(nn.Module):
    """A `TokenEncoder` for inputs (B, C, *sizes) cut into patches of `patch` along each axis of `sizes`.

    Positions are fixed sines and cosines of all axes. There is no class token: the summary is the mean of the encoded
    tokens, as in VideoMAE.
    """

    positions: Tensor

    def __init__(
        self, channels: int, sizes: tuple[int, ...], patch: tuple[int, ...], dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        if any(size % side for size, side in zip(sizes, patch)):
            shape, cut = (" x ".join(str(n) for n in numbers) for numbers in (sizes, patch))
            raise UserError(f"inputs of {shape} do not divide into patches of {cut}")
        self.channels, self.patch, self.dim = channels, patch, dim
        self.grid = tuple(size // side for size, side in zip(sizes, patch))
        self.length, self.patch_dim = math.prod(self.grid), math.prod(patch) * channels
        self.project = nn.Linear(self.patch_dim, dim)
        xavier(self.project)
        self.register_buffer("positions", sincos_positions(dim, self.grid), persistent=False)
        self.transformer = Transformer(dim, depth, heads)

    def patchify(self, x: Tensor) -> Tensor:
        """x (B, C, *sizes) -> (B, L, P), the last axis fastest; in each patch too, and channels fastest of all."""
        axes = len(self.grid)
        split = x.reshape(len(x), self.channels, *(n for pair in zip(self.grid, self.patch) for n in pair))
        order = (0, *range(2, 2 + 2 * axes, 2), *range(3, 3 + 2 * axes, 2), 1)
        return split.permute(order).flatten(1 + axes).flatten(1, axes)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(B, L, P) -> (B, C, *sizes), the inverse of `patchify`."""
        axes = len(self.grid)
        split = patches.unflatten(2, (*self.patch, self.channels)).unflatten(1, self.grid)
        order = (0, 1 + 2 * axes, *(n for pair in zip(range(1, 1 + axes), range(1 + axes, 1 + 2 * axes)) for n in pair))
        sizes = (n * side for n, side in zip(self.grid, self.patch))
        return split.permute(order).reshape(len(patches), self.channels, *sizes)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, C, *sizes) -> tokens with positions (B, L, D)."""
        return self.project(self.patchify(x)) + self.positions

    def encode(self, tokens: Tensor) -> Tensor:
        """Any subset of tokens (B, K, D) -> (B, 1 + K, D), their mean first, after the final norm."""
        x_BKD = self.transformer(tokens)
        return torch.cat((x_BKD.mean(1, keepdim=True), x_BKD), 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *sizes) -> features (B, D): the mean of the encoded tokens."""
        return self.transformer(self.embed(x)).mean(1)
