r"""DrLIM: a Siamese net pulls two views of an image together and pushes others apart until they are a margin away.

Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.

    L = (1 - Y) 1/2 D^2 + Y 1/2 max(0, m - D)^2,   D = |G(x_1) - G(x_2)|,   Y = 0 for similar pairs             (eq. 4)

Shapes: B images, P embedding, which is not normalised. Differs: similar are two views of an image, where the paper takes
neighbours by pixels or known shifts; dissimilar are the first view of one image and the second of any other in the global
batch. The means over similar and over dissimilar pairs are added.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import margin_batch
from nolabel.views.image import TwoViews


class DrLIM(Method):
    margin: float = 1.0
    """m"""
    out: int = 2
    """P; the paper draws maps in two and three dimensions"""
    views: TwoViews = TwoViews(scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, scaled=False, warmup_epochs=0)

    def build(self, data, image):
        self.encoder = image
        self.head = nn.Linear(image.dim, self.out)

    def forward(self, views, t):
        a_BP, b_BP = self.head(self.encoder(torch.cat((views["a"], views["b"])))).chunk(2)
        loss, inside = margin_batch(a_BP, b_BP, self.margin)
        return loss, {"inside_margin": inside, "similar_distance": (a_BP - b_BP).norm(dim=1).mean().detach()}
