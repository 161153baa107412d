r"""data2vec: from a masked input predict what an averaged encoder makes of the whole one, in its upper layers.

Baevski, Hsu, Xu, Babu, Gu, Auli, "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and
Language", ICML 2022, arXiv:2202.03555.

    y = norm( 1/N sum over the last N layers of  norm(a_l) ),   a_l of the teacher's feed-forward branch    (section 3.3)
    L = mean over hidden tokens of  (y - f)^2 / (2 beta)  where |y - f| <= beta, else  |y - f| - beta / 2        (eq. 2)
    teacher <- tau teacher + (1 - tau) student                                                                   (eq. 1)

Runs on whatever the encoder turns into tokens. Shapes: B samples, L tokens, M hidden, D features. A zero prediction
costs about 0.25 for beta 2 and 0.42 for beta 1. Differs: all samples hide equally many tokens; the authors' code for
images takes whole blocks as a_l. LayerScale and stochastic depth are options of the encoder, whose feature here is the
mean over tokens. The log `skill` is the share that is gone of the loss of one who predicts at each place the mean target of
the batch.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.networks.ema import EMA
from nolabel.networks.mask_token import MaskToken
from nolabel.networks.transformer import tapped
from nolabel.views.image import OneView
from nolabel.views.masks import block_mask, mask_indices, random_mask, take


class Data2Vec(Method):
    hide: float = 0.6
    """share of the tokens that is hidden"""
    min_block: int = 16
    """smallest area of a hidden block in tokens; 0 hides single tokens, for what is no picture"""
    layers: int = 6
    """N, at most those of the encoder"""
    beta: float = 2.0
    """where the loss turns from squared to absolute"""
    normalise: Literal["layer", "instance"] = "layer"
    """each a_l over its features, or each feature over the tokens of a sample, as for sound"""
    momentum: tuple[float, float] = (0.9998, 0.9998)
    """tau, first and last value"""
    momentum_epochs: float = 1
    """epochs over which tau moves from first to last"""
    views: OneView = OneView(
        size=224, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.0), jitter_p=1.0, interpolation="bicubic"
    )
    optim: Optim = Optim("adamw", lr=2.5e-4, weight_decay=0.05, warmup_epochs=10, clip=3.0)

    def build(self, data, tokens):
        tokens.pool = "mean"
        self.encoder, self.mask = tokens, MaskToken(tokens.dim)
        self.head = nn.Linear(tokens.dim, tokens.dim)
        self.teacher = EMA(tokens)

    def forward(self, views, t):
        x, length = views["x"], self.encoder.length
        hidden = round(self.hide * length)
        if self.min_block:
            mask = block_mask(len(x), self.encoder.grid, hidden, self.min_block, exact=True, device=x.device)
            _, hide_BM = mask_indices(mask, hidden)
        else:
            _, hide_BM = random_mask(len(x), length, self.hide, device=x.device)
            mask = torch.zeros(len(x), length, dtype=torch.bool, device=x.device).scatter(1, hide_BM, True)
        h_BLD = self.encoder.encode(self.mask(self.encoder, x, mask))[:, 1:]
        guess_BMD = self.head(take(h_BLD, hide_BM)).float()
        seen_BLD = self.target(x)
        goal_BMD, mean_BMD = take(seen_BLD, hide_BM), take(seen_BLD.mean(0).expand_as(seen_BLD), hide_BM)
        loss = F.smooth_l1_loss(guess_BMD, goal_BMD, beta=self.beta)
        skill = 1 - loss.detach() / F.smooth_l1_loss(mean_BMD, goal_BMD, beta=self.beta)
        logs = {"target_std": goal_BMD.std((0, 1)).mean(), "guess_std": guess_BMD.detach().std((0, 1)).mean()}
        return loss, {"skill": skill, **logs}

    @torch.no_grad()
    def target(self, x):
        """The teacher's upper layers for the whole input, normalised and averaged (B, L, D)."""
        with tapped(self.teacher) as layers:
            self.teacher.net.encode(self.teacher.net.embed(x))
        upper = [a_BTD[:, -self.encoder.length :].float() for a_BTD in layers[-self.layers :]]
        if self.normalise == "layer":
            upper = [F.layer_norm(a_BLD, a_BLD.shape[2:]) for a_BLD in upper]
        else:
            upper = [F.instance_norm(a_BLD.mT).mT for a_BLD in upper]
        mean_BLD = torch.stack(upper).mean(0)
        return F.layer_norm(mean_BLD, mean_BLD.shape[2:])

    def after_step(self, t):
        self.teacher.update(self.encoder, t.linear(*self.momentum, self.momentum_epochs))
