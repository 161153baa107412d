r"""I-JEPA: from one block of an image predict the features that an averaged encoder has of other blocks; no pixels.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, "Self-Supervised Learning from Images with a
Joint-Embedding Predictive Architecture", CVPR 2023, arXiv:2301.08243.

    L = mean over targets n, their tokens of  smooth_l1( predictor(encoder(context), places of n) - norm(target(x)) )
    target <- m target + (1 - m) encoder                                                                 (section 3)

Shapes: B images, L tokens, K in the context, N target blocks of T tokens, D features. Differs: the loss is that of the
authors' code (the text has L2); block sizes and shapes are drawn apart from each other and places up to the last row; all
contexts are cut by chance to one fixed length; a class token stays where the encoder has one. The log `skill` is the share
that is gone of the loss of one who predicts at each place the mean target of the batch. What is kept is the target
encoder; its mean over patches is the feature.
"""

import math
import random

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, UserError
from nolabel.core.random import fold
from nolabel.encoders.vit import fixed_positions
from nolabel.networks.decoder import Decoder
from nolabel.networks.ema import EMA
from nolabel.views.image import OneView
from nolabel.views.masks import multiblock, take


class IJEPA(Method):
    targets: int = 4
    """N"""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """range of a target's share of the image"""
    target_aspect: tuple[float, float] = (0.75, 1.5)
    """range of its height / width"""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """range of the context's share, before the targets are taken out"""
    width: int = 384
    """of the predictor"""
    depth: int = 6
    """of the predictor; 12 for ViT-H"""
    heads: int = 12
    """of the predictor"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """m, linear from first to last"""
    views: OneView = OneView(size=224, scale=(0.3, 1.0), flip=0.0)
    optim: Optim = Optim(
        "adamw", lr=1.25e-4, weight_decay=0.04, final_weight_decay=0.4, warmup_epochs=40, final_lr=1e-6
    )

    def build(self, data, tokens):
        fixed_positions(tokens)
        tokens.pool = "mean"
        self.encoder = tokens
        self.target = EMA(tokens)
        self.predictor = Decoder(tokens.dim, self.width, self.depth, self.heads, tokens.grid, tokens.dim)

    def forward(self, views, t):
        x, N = views["x"], self.targets
        target, context = self.sizes(t)
        context_BK, target_BNT = multiblock(len(x), self.encoder.grid, target, context, N, device=x.device)
        tokens_BLD = self.encoder.embed(x)
        if tokens_BLD.shape[1] != self.encoder.length:
            raise UserError(
                "views have another size than the encoder: --views.size and --views.test-size must be alike"
            )
        h_BKD = self.encoder.encode(take(tokens_BLD, context_BK))
        each = [y.repeat_interleave(N, 0) for y in (h_BKD, context_BK)]
        guess_BNTD = self.predictor(*each, target_BNT.flatten(0, 1)).float().unflatten(0, (-1, N))
        with torch.no_grad():
            seen_BLD = self.target.net.encode(self.target.net.embed(x))[:, 1:].float()
            seen_BLD = F.layer_norm(seen_BLD, seen_BLD.shape[-1:])
        goal_BNTD = take(seen_BLD, target_BNT.flatten(1)).view_as(guess_BNTD)
        mean_BNTD = take(seen_BLD.mean(0).expand_as(seen_BLD), target_BNT.flatten(1)).view_as(guess_BNTD)
        loss = F.smooth_l1_loss(guess_BNTD, goal_BNTD)
        skill = 1 - loss.detach() / F.smooth_l1_loss(mean_BNTD, goal_BNTD)
        return loss, {"skill": skill, "target_std": seen_BLD.mean(1).std(0).mean()}

    def sizes(self, t):
        """(height, width) in tokens of targets and context at this step, alike on all ranks."""
        draw, (rows, columns) = random.Random(fold(0, t.stage, t.step)), self.encoder.grid
        scales = (draw.uniform(*self.target_scale), draw.uniform(*self.context_scale))
        aspects = (draw.uniform(*self.target_aspect), 1.0)
        areas = [scale * rows * columns for scale in scales]
        return [
            (min(rows, round(math.sqrt(area * aspect))), min(columns, round(math.sqrt(area / aspect))))
            for area, aspect in zip(areas, aspects)
        ]

    def after_step(self, t):
        self.target.update(self.encoder, t.linear(*self.momentum, t.epochs))

    def kept(self):
        return self.target.net
