r"""CLIP: of all pairs of an image and a text of the batch, tell which belong together, in both directions.

Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever, "Learning Transferable
Visual Models From Natural Language Supervision", ICML 2021, arXiv:2103.00020.

    s_ij = exp(s) cos(W_i f(image_i), W_t g(text_j)),   L = (CE(rows of s, diagonal) + CE(columns of s, diagonal)) / 2
                                                                                                            (figure 3)
    s <- min(s, ln 100) after every step                                                                 (section 2.5)

Shapes: B pairs, E embedding. Captions that occur twice in a batch are false negatives, as in the paper.
What is kept is both towers with their projections, by modality.
"""

import math

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import clip
from nolabel.networks.tower import Tower
from nolabel.views.pairs import Captioned


class CLIP(Method):
    temperature: float = 0.07
    """exp(-s) at the start"""
    coldest: float = 0.01
    """exp(-s) at the least"""
    out: int = 512
    """E, size of the space of images and texts"""
    views: Captioned = Captioned(size=224, length=77)
    optim: Optim = Optim("adamw", lr=5e-4, weight_decay=0.2, betas=(0.9, 0.98), scaled=False, warmup_epochs=0.16)

    def build(self, data, image, text):
        self.towers = nn.ModuleDict({"image": Tower(image, self.out), "text": Tower(text, self.out)})
        self.log_scale = nn.Parameter(torch.tensor([-math.log(self.temperature)]))

    def forward(self, views, t):
        image_BE, text_BE = (self.towers[name](views[name]) for name in ("image", "text"))
        scale = self.log_scale.exp()
        loss, accuracy = clip(image_BE, text_BE, scale)
        return loss, {"pair_accuracy": accuracy, "temperature": 1 / scale.detach()[0]}

    @torch.no_grad()
    def after_step(self, t):
        self.log_scale.clamp_(max=-math.log(self.coldest))

    def kept(self):
        return self.towers
