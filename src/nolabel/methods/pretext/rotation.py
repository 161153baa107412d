r"""Rotation (RotNet): tell by which multiple of 90 degrees the image was turned.

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018,
arXiv:1803.07728.

    L = 1 / (R B)  sum_i sum_r  CE( g(f(turn_r x_i)), r )                                                   (eq. 2-3)

All turned copies of an image are in one batch. The turns are transpositions and flips, exact to the bit, since
interpolation would give the answer away. Shapes: B images, R turns, D features. Differs: the paper's 8-way variant
(45 degrees) is left out, because its interpolation separates odd from even turns.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.views.image import OneView


class Rotation(Method):
    turns_by: tuple[int, ...] = (0, 90, 180, 270)
    """the classes, in degrees; (0, 180) and (90, 270) are the paper's two-way variants"""
    views: OneView = OneView(size=224, scale=(0.2, 1.0))
    optim: Optim = Optim(
        "sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup_epochs=0, drops=(0.43, 0.71), scaled=True
    )

    def build(self, data, image):
        self.encoder = image
        self.classifier = nn.Linear(image.dim, len(self.turns_by))

    def forward(self, views, t):
        turned = torch.stack([torch.rot90(views["x"], degrees // 90, (2, 3)) for degrees in self.turns_by], 1)
        label = torch.arange(len(self.turns_by), device=turned.device).repeat(len(turned))
        logits = self.classifier(self.encoder(turned.flatten(0, 1))).float()
        accuracy = (logits.argmax(1) == label).float().mean()
        return F.cross_entropy(logits, label), {"rotation_accuracy": accuracy}
