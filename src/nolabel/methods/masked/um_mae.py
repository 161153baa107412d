r"""UM-MAE: masking that windowed and pyramid nets can take: one of every 2 x 2 patches stays, and some of those are hidden.

Li, Wang, Yang, Yang, "Uniform Masking: Enabling MAE Pre-training for Pyramid-based Vision Transformers with Locality",
2022, arXiv:2205.10063.

    L = mean over sampled-out tokens and their values of  (decoder(encoder(sampled)) - target)^2             (section 3.2)
    target = (x - mean) / sqrt(var + 1e-6) of each token, its values alone

Shapes: B images, L tokens, K = L / 4 sampled, M = 3 L / 4 to predict, S of K hidden again by a mask token, D features,
P values a token. The S are no targets. Sampled tokens come in the order of a map of half the side, with the positions of
the whole one. Differs: plain ViTs only, whose attention has no windows that would need the compact map.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
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
        self.encoder, self.mask = tokens, MaskToken(tokens.dim)
        self.decoder = Decoder(tokens.dim, self.width, self.depth, self.heads, tokens.grid, tokens.patch_dim)

    def forward(self, views, t):
        x, length = views["x"], self.encoder.length
        keep_BK, hide_BM = uniform_mask(len(x), self.encoder.grid, self.sampling, device=x.device)
        _, again_BS = random_mask(*keep_BK.shape, self.secondary, device=x.device)
        tokens_BLD = self.mask(self.encoder, x, index_mask(take(keep_BK, again_BS), length))
        guess_BMP = self.decoder(self.encoder.encode(take(tokens_BLD, keep_BK)), keep_BK, hide_BM)
        target_BMP = take(self.encoder.patchify(x).float(), hide_BM)
        var_BM1, mean_BM1 = torch.var_mean(target_BMP, -1, keepdim=True)
        return F.mse_loss(guess_BMP.float(), (target_BMP - mean_BM1) * (var_BM1 + 1e-6).rsqrt()), {}
