r"""Barlow Twins: make the cross-correlation of two views' embeddings the identity.

Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
arXiv:2103.03230.

    L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2,   C = correlation of z_a and z_b over the batch     (eq. 1-2)

Shapes: B images, D features, P embedding. A constant encoder costs P. Differs: batch norm of encoder and projector sees
both views at once, where the authors encode one after the other; biases and norms have the rate of the weights, 0.2,
where the paper gives them 0.0048.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.redundancy import barlow_twins
from nolabel.networks.mlp import mlp
from nolabel.views.image import BYOL_VIEWS, TwoViews


class BarlowTwins(Method):
    redundancy: float = 0.0051
    """lambda"""
    scale: float = 1.0
    """factor on the whole loss"""
    hidden: int = 8192
    """width of the projector's hidden layers"""
    out: int = 8192
    """P"""
    views: TwoViews = BYOL_VIEWS
    optim: Optim = Optim("lars", lr=0.2, weight_decay=1e-6, warmup_epochs=10)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.hidden, self.out, last_bias=False)

    def forward(self, views, t):
        a_BP, b_BP = self.projector(self.encoder(torch.cat((views["a"], views["b"])))).chunk(2)
        loss, parts = barlow_twins(a_BP, b_BP, self.redundancy)
        return self.scale * loss, parts
