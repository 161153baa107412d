"""A timm vision transformer as a `TokenEncoder`: image patches in any subset.

Shapes: B batch, C channels, L patches, K kept patches, P values a patch, D width, H heads, T tokens before the patches
(class token and registers), S = T + K. Images are square.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import Attention, resample_abs_pos_embed
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.networks.transformer import added_to_scores, attention_weights, sincos_positions, xavier


class ViTEncoder(nn.Module):
    """Runs `net` in two halves, so that tokens can be dropped in between: `embed`, then `encode`.

    `net` must be built with `dynamic_img_size=True, num_classes=0`. On all tokens the two halves compute what
    `net.forward_features` does. Where the net has no class token, its own pooling of the patches is the summary token.
    """

    def __init__(self, net: VisionTransformer, size: int, pool: Literal["cls", "mean"] = "cls"):
        super().__init__()
        self.net, self.size, self.pool = net, size, pool
        self.dim: int = net.embed_dim
        self.channels: int = net.in_chans
        self.patch: int = net.patch_embed.patch_size[0]
        self.grid: tuple[int, int] = net.patch_embed.grid_size
        self.length = math.prod(self.grid)
        self.patch_dim = self.patch**2 * self.channels
        self.map_dims: tuple[int, ...] = (self.dim, self.dim)
        self.timm_arguments: dict[str, Any] | None = None
        """with which `timm.create_model` builds `net`, None where timm does not have it"""
        self.started = False
        """whether its weights were loaded"""

    def patchify(self, x: Tensor) -> Tensor:
        """Images (B, C, side, side) of the encoder's own size -> (B, L, P), patches row by row, in each the order (row,
        column, channel). Raises UserError for another size, whose patches have other places.
        """
        if x.shape[2] != self.size:
            raise UserError(
                f"views of {x.shape[2]} px for an encoder of {self.size} px: what patches hold is told by their place, so "
                "--views.size and --views.test-size must be alike"
            )
        p = self.patch
        x_BChwpp = x.unfold(2, p, p).unfold(3, p, p)
        return x_BChwpp.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(B, L, P) of a square image -> (B, C, side, side), the inverse of `patchify`."""
        p, side = self.patch, math.isqrt(patches.shape[1])
        x_BhwppC = patches.unflatten(2, (p, p, -1)).unflatten(1, (side, side))
        return x_BhwppC.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    def embed(self, x: Tensor) -> Tensor:
        """Images (B, C, side, side) -> tokens with positions (B, L, D). Other sizes interpolate the positions."""
        x_BHWD = self.net.patch_embed(x)
        _, positions_1LD = self._positions(x_BHWD.shape[1:3])
        return x_BHWD.flatten(1, 2) + positions_1LD

    def encode(self, tokens: Tensor, visible_BK: Tensor | None = None) -> Tensor:
        """Any subset of tokens (B, K, D) -> (B, 1 + K, D), the summary token first, final norm applied.

        `visible_BK` False for tokens that nothing may attend to, such as padding.
        """
        net = self.net
        x_BSD = self._prepare(tokens)
        if visible_BK is not None:
            visible_B11S = F.pad(visible_BK, (net.num_prefix_tokens, 0), value=True)[:, None, None]
            mask_B11S = added_to_scores(visible_B11S, x_BSD.dtype)
            for block in net.blocks:
                x_BSD = block(x_BSD, attn_mask=mask_B11S)
        else:
            x_BSD = checkpoint_seq(net.blocks, x_BSD) if net.grad_checkpointing else net.blocks(x_BSD)
        x_BSD = net.norm(x_BSD)
        patches_BKD = x_BSD[:, net.num_prefix_tokens :]
        summary_BD = x_BSD[:, 0] if net.has_class_token else net.pool(x_BSD, net.global_pool or "avg")
        # of norm and fc_norm one is the identity: the second is for nets that normalise after pooling
        return torch.cat((net.fc_norm(summary_BD)[:, None], net.fc_norm(patches_BKD)), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, side, side) -> features (B, D): the summary token, or the mean of the patches."""
        h_BLD = self.encode(self.embed(x))
        return h_BLD[:, 0] if self.pool == "cls" else h_BLD[:, 1:].mean(1)

    def maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, D) and two maps (B, D, h, w): the embedded patches, which know only themselves, and the last."""
        first_BLD = self.embed(x)
        last_BSD = self.encode(first_BLD)
        side = x.shape[2] // self.patch
        maps = [t_BLD.mT.unflatten(2, (side, -1)) for t_BLD in (first_BLD, last_BSD[:, 1:])]
        return last_BSD[:, 0] if self.pool == "cls" else last_BSD[:, 1:].mean(1), maps

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """Attention of the last block from the class token to the patches (B, H, L), for pictures.

        Rows sum to at most 1: the rest goes to the class token and registers. Without a class token it is the mean
        over the patches that look.
        """
        net, (*first, last) = self.net, self.net.blocks
        if not isinstance(getattr(last, "attn", None), Attention):
            raise NotImplementedError(f"no attention maps of {type(last).__name__}")
        x_BSD = self._prepare(self.embed(x))
        for block in first:
            x_BSD = block(x_BSD)
        weights_BHQL = attention_weights(last, x_BSD)[..., net.num_prefix_tokens :]
        return weights_BHQL[:, :, 0] if net.has_class_token else weights_BHQL.mean(2)

    def _prepare(self, tokens_BKD: Tensor) -> Tensor:
        """Put class token and registers, with their positions, before the patches: (B, K, D) -> (B, T + K, D)."""
        net = self.net
        prefix = [token_1TD for token_1TD in (net.cls_token, net.reg_token) if token_1TD is not None]
        if prefix:
            prefix_1TD = torch.cat(tuple(prefix), 1) + self._positions(self.grid)[0]
            tokens_BKD = torch.cat((prefix_1TD.expand(tokens_BKD.shape[0], -1, -1), tokens_BKD), 1)
        return net.norm_pre(net.pos_drop(tokens_BKD))

    def _positions(self, grid: tuple[int, int]) -> tuple[Tensor | float, Tensor | float]:
        """Positions of the tokens before the patches (1, T, D), 0 where they have none, and of `grid` (1, L, D)."""
        net = self.net
        if net.pos_embed is None:
            return 0.0, 0.0
        count = 0 if net.no_embed_class else net.num_prefix_tokens
        table = net.pos_embed
        if tuple(grid) != self.grid:
            table = resample_abs_pos_embed(table, list(grid), list(self.grid), num_prefix_tokens=count)
        return table[:, :count] if count else 0.0, table[:, count:]


def fixed_positions(encoder: Any) -> None:
    """Sines and cosines that do not train for positions, and linear layers from Xavier's: how MAE starts a ViT of timm.

    He et al., CVPR 2022, appendix A.1. Encoders with loaded weights or without a table that trains stay as they are.
    """
    table = getattr(getattr(encoder, "net", None), "pos_embed", None)
    if not isinstance(encoder, ViTEncoder) or encoder.started or not isinstance(table, nn.Parameter):
        return
    net, before = encoder.net, table.shape[1] - encoder.length
    net.blocks.apply(xavier)
    nn.init.xavier_uniform_(net.patch_embed.proj.weight.flatten(1))  # a view: as a linear layer
    del net.pos_embed
    positions_LD = sincos_positions(encoder.dim, encoder.grid)
    net.register_buffer("pos_embed", F.pad(positions_LD, (0, 0, before, 0))[None])
