r"""Context encoder: paint what is missing in the middle of an image; a critic sees to it that the paint is sharp.

Pathak, Krahenbuhl, Donahue, Darrell, Efros, "Context Encoders: Feature Learning by Inpainting", CVPR 2016,
arXiv:1604.07379.

    L_rec = | M (x - F((1 - M) x)) |^2                                                                          (eq. 1)
    L_adv = max_D  log D(x) + log(1 - D(F((1 - M) x)))                                                          (eq. 2)
    L     = lambda_rec L_rec + lambda_adv L_adv                                                                 (eq. 3)

Shapes: B images (C, S, S), M mask (B, 1, S, S), True hidden. Holes are filled with the mean of the normalised views, 0.
A band of `overlap` known pixels around the hole is painted, too, and weighs `overlap_weight` times. The critic does not
see the context: for a hole in the middle it gets the hole alone. L_rec is a mean over pixels, as in the authors' code.
Differs: one rate for both sides, where the authors give the painter ten times the critic's.
"""

import math
from typing import Literal

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.generative import critic_loss, fooling_loss, right_side
from nolabel.losses.weighted import masked_mean
from nolabel.networks.painter import ChannelwiseLinear, Critic, Painter, map_shape
from nolabel.views.holes import band, holes
from nolabel.views.image import OneView


class ContextEncoder(Method):
    hole: Literal["center", "blocks", "shapes"] = "center"
    """where it is: the middle quarter, small squares, or random shapes"""
    reconstruction: float = 0.999
    """lambda_rec; 0 leaves the critic alone to judge"""
    adversarial: float = 0.001
    """lambda_adv; 0 trains without a critic, as the paper does for features"""
    overlap: int = 4
    """width in pixels of the known band around the hole that is painted, too"""
    overlap_weight: float = 10.0
    """of its pixels in L_rec"""
    width: int = 256
    """channels of the painter's first map, halved from map to map; the critic starts with a quarter of it"""
    views: OneView = OneView(size=128, scale=(0.5, 1.0))
    optim: Optim = Optim("adam", lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, warmup_epochs=0, scaled=False)

    @property
    def turns(self):
        return ("critic", "painter") if self.adversarial > 0 else ("all",)

    def build(self, data, image):
        size = self.views.size
        dim, height, width = map_shape(image, size)
        self.encoder = image
        self.across = nn.Sequential(
            ChannelwiseLinear(dim, height, width), nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU()
        )
        self.painter = Painter(dim, image.channels, round(math.log2(size / height)), self.width)
        if self.adversarial > 0:
            seen = size // 2 if self.hole == "center" else size
            self.critic = Critic(image.channels, seen, max(16, self.width // 4))

    def groups(self, t):
        painter = [*self.encoder.parameters(), *self.across.parameters(), *self.painter.parameters()]
        return {"critic": self.critic.parameters(), "painter": painter} if self.adversarial > 0 else {"all": painter}

    def forward(self, views, t):
        x = views["x"].float()
        hole, painted = self.paint(x)
        if t.turn == "critic":
            real_B, fake_B = self.critic(self.seen(x)), self.critic(self.seen(torch.where(hole, painted, x)).detach())
            return critic_loss(real_B, fake_B), {"critic_accuracy": right_side(real_B, fake_B)}
        error = (x - painted).square()
        weight = hole.float() + self.overlap_weight * band(hole, self.overlap).float()
        loss = self.reconstruction * masked_mean(error, weight)
        logs = {"hole_error": masked_mean(error.detach(), hole)}
        if self.adversarial > 0:
            fooling = fooling_loss(self.critic(self.seen(torch.where(hole, painted, x))))
            loss, logs = loss + self.adversarial * fooling, {**logs, "fooling": fooling.detach()}
        return loss, logs

    def paint(self, x):
        """Holes (B, 1, S, S) and paintings (B, C, S, S) of images from what is around the holes."""
        hole = holes(self.hole, len(x), x.shape[-1], x.device)
        h = self.encoder.maps(x.masked_fill(hole, 0.0))[1][-1]
        return hole, self.painter(self.across(h)).float()

    def seen(self, x):
        """What the critic sees of an image: a hole in the middle alone, else all of it."""
        quarter = x.shape[-1] // 4
        middle = slice(quarter, quarter + x.shape[-1] // 2)
        return x[..., middle, middle] if self.hole == "center" else x

    def show(self, views, t):
        hole, painted = self.paint(views["x"])
        holed = views["x"].masked_fill(hole, 0.0)
        return {"input": views["x"], "visible": holed, "painted": torch.where(hole, painted, views["x"])}
