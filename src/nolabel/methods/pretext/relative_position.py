r"""Relative position: given a patch and one of its eight neighbours, tell which neighbour it is.

Doersch, Gupta, Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015, arXiv:1505.05192.

    L = 1 / 8B  sum_i sum_j  CE( h([ f(centre_i), f(neighbour_ij) ]), j ),   j = 0 .. 7 row by row       (section 3)

Shapes: B images, K = 9 patches, D features. Patches are encoded apart and meet in the head only; gaps and jitter between
them, greying and standardising of each take away edges, chromatic aberration and contrast as clues. What is kept looks at
an image as the net has learned to, patch by patch: the mean of the features of nine, each from the middle of its cell.
Differs: patches are made as by Kolesnikov, Zhai, Beyer (CVPR 2019), greyed together instead of dropping colours, and the
pairs of a grid are its centre with each neighbour; the head joins the encoder's pooled features as they are, without the
paper's layer of 4096 for each patch, and has its two hidden layers of 4096.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.encoders.wrapped import Tilewise
from nolabel.networks.mlp import mlp
from nolabel.views.tiles import Tiles

CENTRE = 4
NEIGHBOURS = [0, 1, 2, 3, 5, 6, 7, 8]


class RelativePosition(Method):
    hidden: int = 4096
    """width of the head's two hidden layers"""
    views: Tiles = Tiles()
    optim: Optim = Optim("sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, warmup_epochs=5, drops=(0.43, 0.71))

    def build(self, data, image):
        self.encoder = Tilewise(image, self.views.grid, self.views.tile, self.views.standardise)
        self.head = mlp(2 * image.dim, self.hidden, self.hidden, len(NEIGHBOURS))

    def forward(self, views, t):
        h_BKD = self.encoder.each(views["tiles"])
        near_BJD = torch.cat((h_BKD[:, :CENTRE], h_BKD[:, CENTRE + 1 :]), 1)
        centre_BJD = h_BKD[:, CENTRE, None].expand_as(near_BJD)
        logits = self.head(torch.cat((centre_BJD, near_BJD), 2).flatten(0, 1)).float()
        where = torch.arange(len(NEIGHBOURS), device=logits.device).repeat(len(h_BKD))
        accuracy = (logits.argmax(1) == where).float().mean()
        return F.cross_entropy(logits, where), {"position_accuracy": accuracy}
