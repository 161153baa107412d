r"""VAT: predictions may not change in the direction in which a small step changes them most.

Miyato, Maeda, Koyama, Ishii, "Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning", TPAMI 2019, arXiv:1704.03976.

    r_i   = argmax over |r| <= epsilon of  KL( p(x_i) || p(x_i + r) ),   by power iteration            (eq. 6, alg. 1)
    L     = CE(labelled) + alpha / B sum_i KL( sg p(x_i) || p(x_i + r_i) )  [ + lambda H(p(x)) ]          (eq. 7-8)

Shapes: n rows with a label, B rows in all, C classes. Lengths are in the units of the normalised views. The extra passes
use the batch's statistics in batch norms and leave the running ones alone. `random_kl` is what a random step of the same
length does to the same rows: `virtual_kl` must be well above it. Differs: xi is 1e-3, not 1e-6, at which rounding in
float32 drowns the direction, and applies in float32 also where the net trains in bfloat16; what is judged is a running
average.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.losses.distill import kl
from nolabel.losses.semi import entropy, virtual_adversary
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.networks.norm import still_statistics
from nolabel.views.weak import Weak


class VAT(Method):
    mu: int = 3
    """samples without a label for each one with a label"""
    epsilon: float = 8.0
    """length of the step, in units of the normalised views"""
    xi: float = 1e-3
    """length of the step by which the direction is found; the paper's 1e-6 asks for float64"""
    iterations: int = 1
    """of the power method"""
    virtual_weight: float = 1.0
    """alpha"""
    entropy_weight: float = 0.0
    """lambda; 1 is the paper's VAT+EntMin"""
    momentum: float = 0.999
    """of the running average that is evaluated"""
    views: Weak = Weak(size=32)
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, warmup_epochs=0, scaled=False)

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    def build(self, data, image):
        self.model = classifier(image, data)
        self.average = EMA(self.model, buffers="ema")

    def forward(self, views, t):
        x, n = views["x"], labelled_rows(self.labelled, len(views["label"]))
        logits_BC = self.model(x).float()
        supervised = F.cross_entropy(logits_BC[:n], views["label"][:n])
        with still_statistics(self.model):
            step = virtual_adversary(self.model, x, self.epsilon, self.xi, self.iterations)
            virtual = kl(self.model(x + step), logits_BC)
            with torch.no_grad():
                other = virtual_adversary(self.model, x, self.epsilon, iterations=0)
                random = kl(self.model(x + other), logits_BC)
        loss = supervised + self.virtual_weight * virtual
        if self.entropy_weight > 0:
            loss = loss + self.entropy_weight * entropy(logits_BC)
        return loss, {"supervised": supervised.detach(), "virtual_kl": virtual.detach(), "random_kl": random}

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
