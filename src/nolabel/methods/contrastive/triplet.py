r"""Triplet: the other view of an image is nearer than any other image, by a margin.

Schroff, Kalenichenko, Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015,
arXiv:1503.03832; without labels: Wang, Gupta, "Unsupervised Learning of Visual Representations using Videos", ICCV 2015,
arXiv:1505.00687.

    L = max(0, |a - p|^2 - |a - n|^2 + margin),  a, p, n of unit length                                    (FaceNet, eq. 3)

Shapes: B images, P embedding. a and p are two views of an image, n is mined among the second views of the others, of all
ranks. Differs: neither faces with names nor patches tracked through videos, but augmented photographs.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import triplet_batch
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class Triplet(Method):
    margin: float = 0.2
    """between the squared distances"""
    mining: str = "semi"
    """negatives: semi (farther than the positive by less than the margin, else the hardest), hardest, or all"""
    hidden: int = 0
    """width of a hidden layer of the head; 0 for a linear one as in the paper"""
    out: int = 128
    """P"""
    views: TwoViews = TwoViews(scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
    optim: Optim = Optim("sgd", lr=0.05, weight_decay=1e-4, warmup_epochs=0)

    def build(self, data, image):
        self.encoder = image
        self.head = mlp(image.dim, *[self.hidden] * bool(self.hidden), self.out)

    def forward(self, views, t):
        z_2BP = F.normalize(self.head(self.encoder(torch.cat((views["a"], views["b"])))).float())
        loss, active = triplet_batch(*z_2BP.chunk(2), self.margin, self.mining)
        return loss, {"active": active, "loss_of_active": loss.detach() / active.clamp(min=1e-6)}
