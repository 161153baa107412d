r"""SupCon: SimCLR with labels; every image of the same class in the batch is a positive. For reference, not self-supervised.

Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan, "Supervised Contrastive Learning", NeurIPS 2020,
arXiv:2004.11362.

    L_out = sum_i  -1 / |P(i)|  sum_{p in P(i)}  log  exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau)  (eq. 2)
    L_in  = sum_i  -log ( 1 / |P(i)|  sum_{p in P(i)}  exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau) )  (eq. 3)

Shapes: B images, P projection. i, p and a run over both views of all ranks; the mean over anchors instead of the sum. An
image without a label is a class of its own, as in SimCLR. Differs from the paper's best run: SimCLR's views instead of
AutoAugment.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import sup_con
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class SupCon(Method):
    labelled = 1.0
    temperature: float = 0.1
    """tau"""
    hidden: int = 2048
    """width of the projection head's hidden layer"""
    out: int = 128
    """P"""
    inside: bool = False
    """L_in, the mean over positives inside the logarithm, which the paper finds worse"""
    views: TwoViews = TwoViews()
    optim: Optim = Optim("sgd", lr=0.125, weight_decay=1e-4, warmup_epochs=10)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.out, norm=None)

    def forward(self, views, t):
        z_2BP = self.projector(self.encoder(torch.cat((views["a"], views["b"]))))
        label_B = torch.where(views["label"] < 0, -1 - views["index"], views["label"])
        return sup_con(z_2BP, label_B.repeat(2), self.temperature, inside=self.inside), {}
