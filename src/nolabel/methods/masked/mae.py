r"""MAE: hide most tokens, encode the rest, paint the hidden ones back.

He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.

    L = mean over hidden tokens and their values of  (decoder(encoder(visible)) - target)^2                 (section 3)
    target = (x - mean) / sqrt(var + 1e-6) of each token, its values alone                              (norm_pix_loss)

Runs on whatever the encoder turns into tokens: image patches, video tubes, spectrogram patches, point groups; see the
presets videomae and audio_mae. Shapes: B samples, L tokens, K kept, M hidden, D features, P values a token, C channels.
A zero prediction costs (P - 1) / P.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.encoders.vit import fixed_positions
from nolabel.networks.decoder import Decoder
from nolabel.views.image import OneView
from nolabel.views.masks import random_mask, take, tube_mask


class MAE(Method):
    hide: float = 0.75
    """share of the tokens that is hidden"""
    mask: Literal["random", "tube"] = "random"
    """tube: the same places at all times (VideoMAE)"""
    width: int = 512
    """of the decoder"""
    depth: int = 8
    """of the decoder"""
    heads: int = 16
    """of the decoder"""
    window: int = 0
    """side in tokens of the windows within which the decoder attends (Audio-MAE); 0: everywhere"""
    normalise: bool = True
    """standardise each target token (norm_pix_loss)"""
    by_channel: bool = False
    """standardise each channel of a token by itself (VideoMAE)"""
    views: OneView = OneView(size=224, scale=(0.2, 1.0), interpolation="bicubic")
    optim: Optim = Optim("adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40)

    def build(self, data, tokens):
        fixed_positions(tokens)
        tokens.pool = "mean"
        self.encoder = tokens
        sizes = self.width, self.depth, self.heads, tokens.grid, tokens.patch_dim
        self.decoder = Decoder(tokens.dim, *sizes, window=self.window)

    def forward(self, views, t):
        guess_BMP, hide_BM = self.guess(views["x"])
        target_BMP, _, _ = self.target(take(self.encoder.patchify(views["x"]).float(), hide_BM))
        return F.mse_loss(guess_BMP.float(), target_BMP), {}

    def guess(self, x):
        """Predictions for the hidden tokens of x, and which those are."""
        tokens_BLD = self.encoder.embed(x)
        if self.mask == "tube":
            keep_BK, hide_BM = tube_mask(len(x), self.encoder.grid, self.hide, device=x.device)
        else:
            keep_BK, hide_BM = random_mask(*tokens_BLD.shape[:2], self.hide, device=x.device)
        return self.decoder(self.encoder.encode(take(tokens_BLD, keep_BK)), keep_BK, hide_BM), hide_BM

    def target(self, x_BMP):
        """Standardised targets with the mean and deviation that undo them."""
        if not self.normalise:
            return x_BMP, 0.0, 1.0
        x_BMVC = x_BMP.unflatten(-1, (-1, self.encoder.channels if self.by_channel else 1))
        var, mean = (s.expand_as(x_BMVC).flatten(2) for s in torch.var_mean(x_BMVC, 2, keepdim=True))
        deviation = (var + 1e-6).sqrt()
        return (x_BMP - mean) / deviation, mean, deviation

    def show(self, views, t):
        x = views["x"]
        guess_BMP, hide_BM = self.guess(x)
        x_BLP = self.encoder.patchify(x)
        _, mean, deviation = self.target(take(x_BLP, hide_BM))
        where = hide_BM[..., None].expand(-1, -1, x_BLP.shape[-1])
        holed = x_BLP.scatter(1, where, 0.0)
        painted = x_BLP.scatter(1, where, (guess_BMP * deviation + mean).to(x_BLP.dtype))
        rows = {"input": x, "visible": self.encoder.unpatchify(holed), "painted": self.encoder.unpatchify(painted)}
        return {k: v.transpose(1, 2).flatten(0, 1) if v.ndim == 5 else v for k, v in rows.items()}  # clips by frames
