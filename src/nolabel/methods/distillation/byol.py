r"""BYOL: an online net predicts how its own running average sees another view of the image; no negatives.

Grill, Strub, Altche, Tallec, Richemond, Buchatskaya, Doersch, Avila Pires, Guo, Gheshlaghi Azar, Piot, Kavukcuoglu,
Munos, Valko, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020, arXiv:2006.07733.

    L(a, b) = 2 - 2 cos( q(z_a), sg(z'_b) ),   L = L(a, b) + L(b, a)   in [0, 8]                             (eq. 2)
    xi <- tau xi + (1 - tau) theta,   tau = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2                     (section 3.3)

Shapes: B images, D features, P projection. The target's batch norms use the statistics of their own batch. Differs: the
target starts as a copy of the online net, not from weights of its own; both views are one batch, for speed, so that batch
norms see them together.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.distill import negative_cosine
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.mlp import mlp
from nolabel.views.image import BYOL_VIEWS, TwoViews


class BYOL(Method):
    hidden: int = 4096
    """width of the hidden layers of projector and predictor"""
    out: int = 256
    """P"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """tau, a cosine from first to last"""
    predictor: bool = True
    """False collapses: for demonstration"""
    views: TwoViews = BYOL_VIEWS
    optim: Optim = Optim("lars", lr=0.2, weight_decay=1.5e-6, warmup_epochs=10)

    def build(self, data, image):
        self.online = nn.Sequential(image, mlp(image.dim, self.hidden, self.out))
        self.target = EMA(self.online)
        self.head = mlp(self.out, self.hidden, self.out) if self.predictor else nn.Identity()

    def forward(self, views, t):
        both = torch.cat((views["a"], views["b"]))
        z_2BP = self.online(both)
        guess_a_BP, guess_b_BP = self.head(z_2BP).chunk(2)
        seen_a_BP, seen_b_BP = self.target(both).chunk(2)
        loss = 4 + 2 * (negative_cosine(guess_a_BP, seen_b_BP) + negative_cosine(guess_b_BP, seen_a_BP))
        return loss, {"cosine": 1 - loss.detach() / 4, "std": feature_std(z_2BP)}

    def after_step(self, t):
        self.target.update(self.online, t.cosine(*self.momentum))

    def kept(self):
        return self.online[0]
