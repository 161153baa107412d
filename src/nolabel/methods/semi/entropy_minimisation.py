r"""Entropy minimisation: decisions on samples without a label are to be sure, so boundaries move into the gaps.

Grandvalet, Bengio, "Semi-supervised Learning by Entropy Minimization", NeurIPS 2004.

    L = 1 / n  sum_i  H( y_i, p(x_i) )  +  lambda / u  sum_j  H( p(x_j) ),   H(p) = -sum_c p_c log p_c        (eq. 5)

Shapes: n rows with a label, u without, C classes. Degenerate: one class for all samples costs nothing in the second
term, so the entropy of the mean prediction is logged. Differs: the weight grows linearly over `ramp` of the run.
"""

import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.losses.semi import entropy
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.views.weak import Weak


class EntropyMinimisation(Method):
    mu: int = 1
    """samples without a label for each one with a label"""
    entropy_weight: float = 0.06
    """lambda"""
    ramp: float = 0.4
    """part of the run over which the weight grows from 0"""
    momentum: float = 0.999
    """of the running average that is evaluated"""
    views: Weak = Weak(size=32)
    optim: Optim = Optim(
        "sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup_epochs=0, scaled=False
    )  # fmt: skip

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    def build(self, data, image):
        self.model = classifier(image, data)
        self.average = EMA(self.model, buffers="ema")

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        logits_BC = self.model(views["x"]).float()
        supervised = F.cross_entropy(logits_BC[:n], views["label"][:n])
        unsure = entropy(logits_BC[n:])
        weight = self.entropy_weight * (min(1.0, t.progress / self.ramp) if self.ramp > 0 else 1.0)
        mean_C = logits_BC.detach().softmax(1).mean(0)
        spread = -(mean_C * mean_C.clamp_min(1e-12).log()).sum()
        logs = {"supervised": supervised.detach(), "entropy": unsure.detach(), "entropy_of_mean": spread}
        return supervised + weight * unsure, logs

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
