r"""VICReg: views agree, every dimension keeps its variance, dimensions do not repeat each other.

Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022,
arXiv:2105.04906.

    L = lambda s(z_a, z_b) + mu (v(z_a) + v(z_b)) + nu (c(z_a) + c(z_b))                                      (eq. 6)
    s = mean squared distance,  v = mean_j max(0, 1 - sqrt(Var z_j + eps)),  c = 1/P sum_{i != j} Cov_ij^2    (eq. 1-5)

Shapes: B images, D features, P embedding. Scaled as in the authors' code: s is a mean over P as well, v has a half.
Differs: batch norm sees both views at once, where the authors encode one after the other.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.redundancy import vicreg
from nolabel.networks.mlp import mlp
from nolabel.views.image import BYOL_VIEWS, TwoViews


class VICReg(Method):
    invariance: float = 25.0
    """lambda"""
    variance: float = 25.0
    """mu; 0 collapses"""
    covariance: float = 1.0
    """nu"""
    hidden: int = 8192
    """width of the expander's hidden layers"""
    out: int = 8192
    """P"""
    views: TwoViews = BYOL_VIEWS
    optim: Optim = Optim("lars", lr=0.2, weight_decay=1e-6, warmup_epochs=10)

    def build(self, data, image):
        self.encoder = image
        self.expander = mlp(image.dim, self.hidden, self.hidden, self.out, last_bias=False)

    def forward(self, views, t):
        a_BP, b_BP = self.expander(self.encoder(torch.cat((views["a"], views["b"])))).chunk(2)
        loss, parts = vicreg(a_BP, b_BP, self.invariance, self.variance, self.covariance)
        return loss, parts
