r"""NNCLR: the positive of an image is not its other view but that view's nearest neighbour among earlier images.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning
of Visual Representations", ICCV 2021, arXiv:2104.14548.

    L_i = -log  exp(nn(z_i, Q) . p_i / tau)  /  sum_k exp(nn(z_i, Q) . p_k / tau)                             (eq. 2)
    nn(z, Q) = argmin_{q in Q} |z - q|, rows of unit length                                                   (eq. 3)

Shapes: B images, P projection. L is the mean over both orders of the views; p are predictions from the other view. The
queue Q takes the z of the first view after it was searched.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce_batch
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.image import BYOL_VIEWS, TwoViews


class NNCLR(Method):
    temperature: float = 0.1
    """tau of eq. 2"""
    queue: int = 98304
    """size of Q"""
    hidden: int = 2048
    """width of the projector's two hidden layers"""
    bottleneck: int = 4096
    """width of the predictor's hidden layer"""
    out: int = 256
    """P"""
    views: TwoViews = BYOL_VIEWS
    optim: Optim = Optim("lars", lr=0.3, weight_decay=1e-6, warmup_epochs=10)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.hidden, self.out, last_norm="bn")
        self.predictor = mlp(self.out, self.bottleneck, self.out)
        self.memory = Queue(self.queue, self.out)

    def forward(self, views, t):
        z_2BP = self.projector(self.encoder(torch.cat((views["a"], views["b"]))))
        p_a_BP, p_b_BP = self.predictor(z_2BP).chunk(2)
        z_a_BP, z_b_BP = z_2BP.detach().chunk(2)
        one, right = info_nce_batch(self.memory.nearest(z_a_BP), p_b_BP, self.temperature)
        two, wrong = info_nce_batch(self.memory.nearest(z_b_BP), p_a_BP, self.temperature)
        self.memory.enqueue(z_a_BP)
        return (one + two) / 2, {"instance_accuracy": (right + wrong) / 2}
