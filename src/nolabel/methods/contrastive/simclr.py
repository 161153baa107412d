r"""SimCLR: two views of one image attract, every other image of the global batch repels.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
arXiv:2002.05709.

    l(i, j) = -log  exp(cos(z_i, z_j) / tau)  /  sum_{k != i} exp(cos(z_i, z_k) / tau)                     (eq. 1)
    L       = 1 / 2B  sum_k  l(2k-1, 2k) + l(2k, 2k-1)

Shapes: B images, D features, P projection. Differs from the paper: the projection head ends without BatchNorm, as in
the paper's text (its code adds one).
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import nt_xent
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class SimCLR(Method):
    temperature: float = 0.1
    """tau of eq. 1"""
    hidden: int = 2048
    """width of the projection head's hidden layer; 0 for a linear head"""
    out: int = 128
    """P, size of the space the loss lives in"""
    views: TwoViews = TwoViews(size=224, scale=(0.08, 1.0), strength=1.0)
    optim: Optim = Optim("lars", lr=0.3, weight_decay=1e-6, warmup_epochs=10)

    def build(self, data, image):
        self.encoder = image
        widths = (self.hidden, self.out) if self.hidden else (self.out,)
        self.projector = mlp(image.dim, *widths)

    def forward(self, views, t):
        h_2BD = self.encoder(torch.cat((views["a"], views["b"])))
        a_BP, b_BP = self.projector(h_2BD).chunk(2)
        loss, accuracy = nt_xent(a_BP, b_BP, self.temperature)
        return loss, {"instance_accuracy": accuracy}
