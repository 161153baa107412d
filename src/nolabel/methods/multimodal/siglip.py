r"""SigLIP: tell for every pair of an image and a text by itself whether they belong together.

Zhai, Mustafa, Kolesnikov, Beyer, "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343.

    L = -1/B sum_i sum_j log sigmoid( y_ij (exp(t) x_i . y_j + b) ),   y_ij = 1 for i = j, else -1               (eq. 1)

Shapes: B pairs, E embedding, unit rows x and y. t starts at ln 10 and b at -10, for a batch of 32,768; for small batches b
near -ln B starts with the share of true pairs. The loss is a sum over j: its size grows with wrong pairs, not its start.
Differs: AdamW instead of Adafactor, a cosine schedule. What is kept is both towers with their projections, by modality.
"""

import math

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.siglip import siglip
from nolabel.networks.tower import Tower
from nolabel.views.pairs import Captioned


class SigLIP(Method):
    scale: float = 10.0
    """exp(t) at the start"""
    offset: float = -10.0
    """b at the start"""
    out: int = 768
    """E, size of the space of images and texts"""
    views: Captioned = Captioned(size=224, length=16)
    optim: Optim = Optim(
        "adamw", lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.95), scaled=False, warmup_epochs=0.5, clip=1.0
    )

    def build(self, data, image, text):
        self.towers = nn.ModuleDict({"image": Tower(image, self.out), "text": Tower(text, self.out)})
        self.log_scale = nn.Parameter(torch.tensor([math.log(self.scale)]))
        self.bias = nn.Parameter(torch.tensor([self.offset]))

    def forward(self, views, t):
        image_BE, text_BE = (self.towers[name](views[name]) for name in ("image", "text"))
        scale = self.log_scale.exp()
        loss = siglip(image_BE, text_BE, scale, self.bias)
        return loss, {"scale": scale.detach()[0], "bias": self.bias.detach()[0].clone()}

    def kept(self):
        return self.towers
