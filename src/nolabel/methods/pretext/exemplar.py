r"""Exemplar: strongly changed copies of one image are one class, told from the copies of all others.

Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox, "Discriminative Unsupervised Feature Learning with Exemplar
Convolutional Neural Networks", TPAMI 2016, arXiv:1406.6909.

    L = 1 / VB  sum_v sum_i  max( 0, |z_vi - z_(v+1)i|^2 - |z_vi - n_vi|^2 + margin ),   |z| = 1

Shapes: B images, V copies of each, D features, P embedding. n is the nearest copy of another image that is farther than the
positive by less than the margin, else the nearest one. Differs: in place of the paper's softmax over one class an image,
which does not scale, the triplet loss with semi-hard negatives of Doersch, Zisserman (ICCV 2017) and Kolesnikov, Zhai,
Beyer (CVPR 2019); embeddings are normalised over features (their code does so over the batch); the positive of a copy
is the next copy.
"""

import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import gather
from nolabel.losses.contrastive import mine_negatives, triplet
from nolabel.views.tiles import Copies


class Exemplar(Method):
    margin: float = 0.5
    """how much nearer the positive must be, in squared distance"""
    out: int = 1000
    """P"""
    views: Copies = Copies()
    optim: Optim = Optim("sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, warmup_epochs=5, drops=(0.43, 0.71))

    def build(self, data, image):
        self.encoder = image
        self.head = nn.Linear(image.dim, self.out)

    def forward(self, views, t):
        copies_VBCSS, index_B = views["copies"], views["index"]
        V = len(copies_VBCSS)
        z_VBP = F.normalize(self.head(self.encoder(copies_VBCSS.flatten(0, 1))).float(), dim=1).unflatten(0, (V, -1))
        anchor, positive = z_VBP.flatten(0, 1), z_VBP.roll(-1, 0).flatten(0, 1)
        index = index_B.repeat(V)
        pool, of = gather(anchor), gather(index)
        nearest = mine_negatives(anchor, positive, pool, index[:, None] != of, self.margin)
        loss, active = triplet(anchor, positive, pool[nearest], self.margin)
        far = (anchor.detach() - pool.detach()[nearest]).square().sum(1).mean()
        near = (anchor.detach() - positive.detach()).square().sum(1).mean()
        return loss, {"active": active, "to_positive": near, "to_negative": far}
