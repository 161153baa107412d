r"""SimCLR v2: a bigger net and a deeper head, of which the first layer stays for learning from few labels.

Chen, Kornblith, Swersky, Norouzi, Hinton, "Big Self-Supervised Models are Strong Semi-Supervised Learners", NeurIPS 2020,
arXiv:2006.10029.

    l(i, j) = -log  exp(cos(z_i, z_j) / tau)  /  sum_{k != i} exp(cos(z_i, z_k) / tau)                       (eq. 1)
    kept    = relu(bn(W_1 f(x))),  the first of the head's three layers                                 (section 2, 3.2)

Shapes: B images, P projection. Differs: without the memory of keys (+1 % in the paper), and the head ends without
BatchNorm. The paper's nets are up to ResNet-152, three times as wide, with selective kernels.
"""

import torch

from nolabel.core import Method, Optim, UserError
from nolabel.encoders.wrapped import Headed
from nolabel.losses.contrastive import nt_xent
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class SimCLRv2(Method):
    temperature: float = 0.1
    """tau of eq. 1"""
    layers: int = 3
    """of the projection head"""
    kept_layers: int = 1
    """layers of the head that are handed on with the encoder; 0 for a linear probe as in the paper"""
    hidden: int = 2048
    """width of the head's hidden layers"""
    out: int = 128
    """P"""
    views: TwoViews = TwoViews()
    optim: Optim = Optim("lars", lr=0.4, weight_decay=1e-4, warmup_epochs=10)  # 6.4 at the paper's batch of 4,096

    def build(self, data, image):
        if not 0 <= self.kept_layers < self.layers:
            raise UserError(
                f"kept_layers must be from 0 to {self.layers - 1}, one less than layers, not {self.kept_layers}"
            )
        self.encoder = Headed(image, self.kept_layers, self.hidden)
        self.projector = mlp(self.encoder.dim, *[self.hidden] * (self.layers - 1 - self.kept_layers), self.out)

    def forward(self, views, t):
        z_2BP = self.projector(self.encoder(torch.cat((views["a"], views["b"]))))
        loss, accuracy = nt_xent(*z_2BP.chunk(2), self.temperature)
        return loss, {"instance_accuracy": accuracy}
