r"""UM-MAE: masking that windowed and pyramid nets can take: one of every 2 x 2 patches stays, and some of those are hidden.

Li, Wang, Yang, Yang, "Uniform Masking: Enabling MAE Pre-training for Pyramid-based Vision Transformers with Locality",
2022, arXiv:2205.10063.

    L = mean over sampled-out tokens and their values of  (decoder(encoder(sampled)) - target)^2             (section 3.2)
    target = (x - mean) / sqrt(var + 1e-6) of each token, its values alone

Shapes: B images, L tokens, K = L / 4 sampled, M = 3 L / 4 to predict, S of K hidden again by a mask token, D features,
P values a token. The S are no targets. Sampled tokens come in the order of a map of half the side, with the positions of
the whole one, so a pyramid runs on that map as it is; what it has merged is parted again before the decoder. Differs:
the pyramid is a small one with pooled keys (`tiny_pyramid`), where the paper has PVT and Swin. Plain ViTs do as well.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.vit import fixed_positions
from nolabel.networks.decoder import Decoder
from nolabel.networks.mask_token import MaskToken
from nolabel.views.image import OneView
from nolabel.views.masks import index_mask, random_mask, take, uniform_mask


class UMMAE(Method):
    sampling: Literal["uniform", "grid", "random"] = "uniform"
    """which quarter stays: one of every 2 x 2 by chance, always its first, or any quarter"""
    secondary: float = 0.25
    """share of the sampled tokens that a mask token replaces"""
    width: int = 512
    """of the decoder"""
    depth: int = 2
    """of the decoder"""
    heads: int = 16
    """of the decoder"""
    views: OneView = OneView(size=256, scale=(0.2, 1.0), interpolation="bicubic")
    optim: Optim = Optim("adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=10)

    def build(self, data, tokens):
        fixed_positions(tokens)
        self.encoder, self.mask = tokens, MaskToken(getattr(tokens, "token_dim", tokens.dim))
        self.merge = getattr(tokens, "merge", 1)
        self.part = nn.Linear(tokens.dim, self.merge * tokens.dim) if self.merge > 1 else nn.Identity()
        self.decoder = Decoder(tokens.dim, self.width, self.depth, self.heads, tokens.grid, tokens.patch_dim)

    def forward(self, views, t):
        x, length = views["x"], self.encoder.length
        keep_BK, hide_BM = uniform_mask(len(x), self.encoder.grid, self.sampling, device=x.device)
        _, again_BS = random_mask(*keep_BK.shape, self.secondary, device=x.device)
        tokens_BLD = self.mask(self.encoder, x, index_mask(take(keep_BK, again_BS), length))
        guess_BMP = self.decoder(self.encode(take(tokens_BLD, keep_BK)), keep_BK, hide_BM)
        target_BMP = take(self.encoder.patchify(x).float(), hide_BM)
        var_BM1, mean_BM1 = torch.var_mean(target_BMP, -1, keepdim=True)
        return F.mse_loss(guess_BMP.float(), (target_BMP - mean_BM1) * (var_BM1 + 1e-6).rsqrt()), {}

    def encode(self, tokens_BKD):
        """Summary and one output for each sampled token (B, 1 + K, D), whatever the encoder merges."""
        if self.merge == 1:
            return self.encoder.encode(tokens_BKD)
        map_BTD = self.encoder.merged(tokens_BKD)
        return torch.cat((map_BTD.mean(1, keepdim=True), self.parted(map_BTD)), 1)

    def parted(self, map_BTD):
        """Each place of the last map as the square of sampled tokens that it stands for, all row by row (B, K, D)."""
        side, cell = math.isqrt(map_BTD.shape[1]), math.isqrt(self.merge)
        h_BssccD = self.part(map_BTD).unflatten(2, (cell, cell, -1)).unflatten(1, (side, side))
        return h_BssccD.transpose(2, 3).flatten(1, 4)
