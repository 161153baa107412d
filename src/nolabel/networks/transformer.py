"""Transformers on any tokens: positions, a stack of pre-LN blocks, attention maps for pictures.

Shapes: B batch, L tokens, D width, H heads.

The block is timm's: it is the pre-LN block of ViT on `scaled_dot_product_attention`, has LayerScale and stochastic
depth, and is as fast as a hand-written one. One block everywhere means that weights, attention maps and
compiled kernels of timm's ViTs and of our own stacks are interchangeable.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

__all__ = ["Block", "Transformer", "attend", "attention_weights", "sincos_positions", "tapped"]


class Transformer(nn.Module):
    """`depth` blocks and a final LayerNorm (Dosovitskiy et al., ICLR 2021): tokens (B, L, D) -> (B, L, D).

    `drop_path` is the rate of stochastic depth of the last block, rising linearly from zero at the first (Huang et
    al. 2016). `layer_scale` is the first value of a learned gain per channel on each branch (Touvron et al. 2021).
    Linear layers start Xavier-uniform as in MAE: at the small widths used here std .02 would start almost silent.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, ratio, qkv_bias=True, init_values=layer_scale, drop_path=rate, norm_layer=norm)  # type: ignore
            for rate in rates
        )
        self.norm = norm(dim)
        self.apply(xavier)

    def forward(self, x_BLD: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens to tokens. `visible` (bool, broadcast to (B, H, L, L), True = may be attended) for padding or order.

        For padding of shape (B, L) pass `padding[:, None, None]`; `torch.ones(L, L, dtype=bool).tril()` is causal.
        """
        mask = None if visible is None else added_to_scores(visible, x_BLD.dtype)
        for block in self.blocks:
            x_BLD = block(x_BLD, attn_mask=mask)
        return self.norm(x_BLD)

    @torch.no_grad()
    def attention(self, x_BLD: Tensor, layer: int = -1) -> Tensor:
        """Attention weights (B, H, L query, L key) of one layer, for pictures."""
        layer %= len(self.blocks)
        for block in self.blocks[:layer]:
            x_BLD = block(x_BLD)
        return attention_weights(self.blocks[layer], x_BLD)


def added_to_scores(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where True (may be attended), else -inf: what attention takes fused or not. timm's plain path would add 0 and 1
    of booleans.
    """
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, -math.inf)


def attend(q_BHQd: Tensor, k_BHKd: Tensor, v_BHKd: Tensor, fused: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v -> (B, H, Q, d), by the fused kernel or as plain products."""
    if fused:
        return F.scaled_dot_product_attention(q_BHQd, k_BHKd, v_BHKd)
    return (q_BHQd / math.sqrt(q_BHQd.shape[-1]) @ k_BHKd.mT).softmax(-1) @ v_BHKd


def attention_weights(block: Any, x_BLD: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) of a block for its input tokens: (B, H, L, L). The fused kernel never forms it."""
    attn = block.attn
    qkv_3BHLd = attn.qkv(block.norm1(x_BLD)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q_BHLd, k_BHLd = attn.q_norm(qkv_3BHLd[0]), attn.k_norm(qkv_3BHLd[1])
    return (q_BHLd.float() @ k_BHLd.float().mT / math.sqrt(q_BHLd.shape[-1])).softmax(-1)


@contextmanager
def tapped(net: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the context every block of `net` that runs adds what its feed-forward branch gave (B, L, D) to the list.

    That is before LayerScale and the residual sum, the layer that data2vec takes as its target.
    """
    seen: list[Tensor] = []
    hooks = [
        block.mlp.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for block in net.modules()
        if isinstance(block, Block)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def sincos_positions(dim: int, grid: tuple[int, ...], cls: int = 0) -> Tensor:
    """Fixed sine and cosine positions of a 1-D, 2-D or 3-D grid: (cls + prod(grid), dim), row-major.

    As in MAE: the columns are divided among the axes, the last axis (width) first; each axis has its sines, then its
    cosines, of wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017). `cls` zero rows come first for summary
    tokens; columns left over when 2 * axes does not divide `dim` are zero.
    """
    count = dim // (2 * len(grid))
    if count < 1:
        raise ValueError(f"{dim} columns are too few for sines and cosines of {len(grid)} axes")
    wave_F = 10000.0 ** (-torch.arange(count, dtype=torch.float64) / count)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [place.reshape(-1, 1) * wave_F for place in reversed(places)]
    table_LD = torch.zeros(cls + math.prod(grid), dim)
    table_LD[cls:, : 2 * len(grid) * count] = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)
    return table_LD


def xavier(module: nn.Module) -> None:
    """Start a linear layer Xavier-uniform with zero bias; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
