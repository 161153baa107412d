r"""SimSiam: BYOL without the running average; stopping the gradient is what keeps it from collapsing.

Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566.

    L = -1/2 cos( h(z_a), sg(z_b) ) - 1/2 cos( h(z_b), sg(z_a) )   in [-1, 1]                              (eq. 1-4)
    theta^{t+1} = argmin_theta E | F_theta(T(x)) - eta_x^t |^2,   eta_x^t = F_{theta^t}(T'(x))            (eq. 10-11)

The second line is how the authors read the first, as EM does: two problems solved in turn, one step each, or `inner` steps
for the net and then new targets; h stands for the mean of eta over T'. Shapes: B images, D features, P projection. The
predictor's rate is constant. Differs: both views are one batch, for speed, so that batch norms see them together.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.distill import negative_cosine
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class SimSiam(Method):
    steady = ("predictor",)
    hidden: int = 2048
    """width of the projector's hidden layers"""
    out: int = 2048
    """P"""
    bottleneck: int = 512
    """width of the predictor's hidden layer"""
    stop_gradient: bool = True
    """False collapses: for demonstration"""
    inner: int = 1
    """steps for which the net that makes the targets stays as it was (section 5.2); 1: the net itself"""
    views: TwoViews = TwoViews(size=224, scale=(0.2, 1.0), strength=1.0, jitter=(0.4, 0.4, 0.4, 0.1))
    optim: Optim = Optim("sgd", lr=0.05, weight_decay=1e-4, warmup_epochs=0)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.hidden, self.out, last_norm="bn_noaffine")
        self.predictor = mlp(self.out, self.bottleneck, self.out)
        self.earlier = EMA(self.net()) if self.inner > 1 else None

    def net(self):
        return nn.Sequential(self.encoder, self.projector)

    def forward(self, views, t):
        both = torch.cat((views["a"], views["b"]))
        z_2BP = self.projector(self.encoder(both))
        guess_2BP = self.predictor(z_2BP)
        guess_a_BP, guess_b_BP = guess_2BP.chunk(2)
        z_a_BP, z_b_BP = (z_2BP if self.inner == 1 else self.earlier(both)).chunk(2)
        if self.stop_gradient:
            loss = (negative_cosine(guess_a_BP, z_b_BP) + negative_cosine(guess_b_BP, z_a_BP)) / 2
        else:
            cosine = torch.cosine_similarity
            loss = -(cosine(guess_a_BP.float(), z_b_BP.float()) + cosine(guess_b_BP.float(), z_a_BP.float())).mean() / 2
        return loss, {"std": feature_std(guess_2BP)}

    def after_step(self, t):
        if self.inner > 1 and (t.step + 1) % self.inner == 0:
            self.earlier.update(self.net(), 0.0)
