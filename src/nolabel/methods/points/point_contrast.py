r"""PointContrast: one point seen in two overlapping views attracts itself and repels every other point.

Xie, Gu, Guo, Qi, Guibas, Litany, "PointContrast: Unsupervised Pre-training for 3D Point Cloud Understanding", ECCV 2020,
arXiv:2007.10985.

    L = -mean over matched pairs i of  log  exp(f1_i . f2_i / tau)  /  sum_j exp(f1_i . f2_j / tau)     (PointInfoNCE)

Shapes: B clouds, M matched points of each, D features of a point, O values of f, unit rows. Negatives are the matched
points of all clouds of all ranks (the released code: of one rank). Differs: the two views are two crops of one stored cloud
that share points, where the paper has two scans of a room and matches what lies near; a cosine instead of an
exponential schedule. The hardest-contrastive variant is not here.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce_batch
from nolabel.views.points import TwoClouds


class PointContrast(Method):
    temperature: float = 0.4
    """tau"""
    out: int = 32
    """O, size of the space the loss lives in"""
    views: TwoClouds = TwoClouds(points=2048, pairs=128)
    optim: Optim = Optim("sgd", lr=0.1, weight_decay=1e-4, momentum=0.8, scaled=False, warmup_epochs=0)

    def build(self, data, points):
        self.encoder = points
        self.head = nn.Linear(points.dim, self.out)

    def forward(self, views, t):
        both_2BND = self.encoder.points(torch.cat((views["a"], views["b"])))
        a_NO, b_NO = (f.flatten(0, 1) for f in self.head(both_2BND[:, : self.views.pairs]).chunk(2))
        loss, accuracy = info_nce_batch(a_NO, b_NO, self.temperature)
        return loss, {"match_accuracy": accuracy}
