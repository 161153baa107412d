"""Networks small enough to train on CPU cores in minutes: convolutional, on tokens, and tokens behind convolutions.

Shapes: B batch, C channels, S side of the image in pixels, D features.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from timm.layers import SwiGLU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.encoders.sizes import divided
from nolabel.encoders.vit import ViTEncoder
from nolabel.networks.transformer import sincos_positions, xavier


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, norms before convolutions (He et al., ECCV 2016); halves the side."""

    def __init__(self, width_in: int, width: int, stride: int = 2):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x), inplace=True)
        return self.shortcut(h) + self.conv2(F.relu(self.norm2(self.conv1(h)), inplace=True))


class TinyConv(nn.Module):
    """A residual net for 32 px on one CPU core: images (B, C, S, S), S >= 16, -> (B, D).

    A 3x3 stem of 16 channels, then one block each of 32, 64 and 192 channels at 1/2, 1/4 and 1/8 of the side, and the
    mean over places: 0.53 M weights. Trains 1,600 views/s at 32 px on one busy core with AVX512-BF16 (bf16,
    channels-last, batch 512). There is no block at full size because its activations, not its arithmetic, would cost
    a quarter of the time; a last stage of 192 instead of 128 channels costs less than the better features are worth.
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        stem: int = 16,
        widths: tuple[int, ...] = (32, 64, 192),
        strides: tuple[int, ...] = (2, 2, 2),
    ):
        super().__init__()
        if size < 16:
            raise UserError(f"the encoder tiny needs images of at least 16 px, not {size}")
        self.size, self.channels, self.dim = size, channels, widths[-1]
        self.map_dims = widths
        self.stem = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        self.stages = nn.Sequential(*(Residual(a, b, by) for (a, b), by in zip(pairwise((stem, *widths)), strides)))
        self.norm = nn.BatchNorm2d(self.dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.stages(self.stem(x))), inplace=True).mean((2, 3))

    def maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, D) and what they are made of: maps (B, map_dims[k], h, w) after each block, fine to coarse."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        found[-1] = F.relu(self.norm(x))
        return found[-1].mean((2, 3)), found


def tiny_tokens(size: int = 32, channels: int = 3, *, grid: int = 8) -> ViTEncoder:
    """A vision transformer of width 96, depth 4, 3 heads (0.45 M weights): 8 x 8 patches at fixed positions."""
    patch = divided("tiny_tokens", size, grid)
    net = VisionTransformer(
        size, patch, channels, num_classes=0, embed_dim=96, depth=4, num_heads=3, dynamic_img_size=True
    )  # fmt: skip
    net.blocks.apply(xavier)
    nn.init.xavier_uniform_(net.patch_embed.proj.weight.flatten(1))  # as a linear layer, like MAE
    del net.pos_embed  # a buffer instead of a parameter: it is not trained
    net.register_buffer("pos_embed", sincos_positions(96, (grid, grid), cls=1)[None])
    return ViTEncoder(net, size)


class ConvPatches(nn.Module):
    """Tokens from residual blocks in the place of one strided convolution, as timm's `embed_layer`: images -> (B, h, w, D).

    Each block halves the side and doubles the width, from 16 on; what of `patch_size` is no power of two is left to a last
    one (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021). Neighbouring tokens overlap in
    what they see.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **_: Any):
        super().__init__()
        halvings = (patch_size & -patch_size).bit_length() - 1
        strides = [2] * halvings + [patch_size >> halvings] * (patch_size >> halvings > 1 or not halvings)
        widths = [16 * 2**i for i in range(len(strides))] + [embed_dim]
        self.patch_size, self.grid_size = (patch_size, patch_size), (img_size // patch_size,) * 2
        self.num_patches = self.grid_size[0] ** 2
        self.stem = nn.Conv2d(in_chans, widths[0], 3, 1, 1, bias=False)
        self.stages = nn.Sequential(*(Residual(a, b, by) for (a, b), by in zip(pairwise(widths), strides)))
        self.norm = nn.BatchNorm2d(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.stages(self.stem(x))).permute(0, 2, 3, 1)

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """The grid of an image, which timm's `forward_intermediates` asks for."""
        return img_size[0] // self.patch_size[0], img_size[1] // self.patch_size[1]


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm of tokens (..., D), each a sample."""

    def __init__(self, dim: int, **_: Any):
        super().__init__(dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


def tiny_hybrid(
    size: int = 32,
    channels: int = 3,
    *,
    grid: int = 8,
    width: int = 96,
    depth: int = 2,
    layer_scale: float | None = None,
    drop_path: float = 0.0,
    swiglu: bool = False,
) -> ViTEncoder:
    """Tokens from convolutions, blocks of attention with three heads, batch norms, the mean of the patches (0.35 M weights).

    For methods that hide tokens and compare images: the class token of `tiny_tokens` starts nearly alike for all images.

    grid         patches a side
    width        of the tokens, a multiple of 12
    depth        blocks of attention
    layer_scale  first value of a factor on every branch (LayerScale)
    drop_path    share of samples for which the last block's branches are left out; less in the block before
    swiglu       gated MLPs with as many weights (SwiGLU)
    """
    patch = divided("tiny_hybrid", size, grid)
    # two thirds of the width, in eights: three matrices weigh what two did
    gated: dict[str, Any] = {
        "mlp_ratio": 8 / 3, "mlp_layer": partial(SwiGLU, align_to=8), "act_layer": nn.SiLU
    }  # fmt: skip
    net = VisionTransformer(
        size, patch, channels, num_classes=0, embed_dim=width, depth=depth, num_heads=3, dynamic_img_size=True,
        embed_layer=ConvPatches, class_token=False, global_pool="avg", fc_norm=False, norm_layer=TokenBatchNorm,
        init_values=layer_scale, drop_path_rate=drop_path, **(gated if swiglu else {}),
    )  # fmt: skip
    net.blocks.apply(xavier)
    del net.pos_embed
    # small beside the tokens, or patches tell each other where they are before they tell what they show
    net.register_buffer("pos_embed", 0.05 * sincos_positions(width, (grid, grid))[None])
    return ViTEncoder(net, size, "mean")
