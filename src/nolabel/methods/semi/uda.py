r"""UDA: predictions on a strong view follow the sharpened ones on a weak view; labels are released bit by bit.

Xie, Dai, Hovy, Luong, Le, "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020, arXiv:1904.12848.

    L = CE over labelled x with p(y | x) < eta_t                                                  (training signal annealing)
      + lambda / u  sum_j  1[ max p(w(u_j)) > beta ]  KL( sg softmax(logits(w(u_j)) / T) || p(S(u_j)) )           (eq. 1)
    eta_t = s(t) (1 - 1/C) + 1/C,   s linear: t, exp: e^{5 (t - 1)}, log: 1 - e^{-5 t},   t progress in [0, 1]

Shapes: n rows with a label, u without, C classes. The mask looks at the probability of the true class, as in the paper.
Differs: the strong view is this library's RandAugment with Cutout.
"""

import math
from typing import Literal

import torch

from nolabel.core import Method, Optim, labelled_rows
from nolabel.losses.semi import annealed_cross_entropy, uda
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.views.weak import WeakStrong


class UDA(Method):
    mu: int = 7
    """samples without a label for each one with a label"""
    temperature: float = 0.4
    """T"""
    threshold: float = 0.8
    """beta"""
    unlabelled_weight: float = 1.0
    """lambda"""
    annealing: Literal["linear", "exp", "log", "none"] = "linear"
    """s(t): how fast labels are released; exp for few labels, log where nothing is overfitted"""
    momentum: float = 0.999
    """of the running average that is evaluated"""
    views: WeakStrong = WeakStrong(size=32)
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
        u = len(views["label"]) - n
        logits = self.model(torch.cat((views["weak"], views["strong"][n:])))
        labelled_nC, weak_uC, strong_uC = logits.float().split((n, u, u))
        eta = self.released(t.progress, labelled_nC.shape[1])
        supervised, learns = annealed_cross_entropy(labelled_nC, views["label"][:n], eta)
        consistency, sure = uda(strong_uC, weak_uC, self.temperature, self.threshold)
        logs = {"supervised": supervised.detach(), "consistency": consistency.detach(), "sure": sure, "learns": learns}
        return supervised + self.unlabelled_weight * consistency, logs

    def released(self, progress, classes):
        """eta_t: from 1 / C to 1; none gives 1, and a little more, so that no sample is left out"""
        if self.annealing == "none":
            return 2.0
        s = {"linear": progress, "exp": math.exp(5 * (progress - 1)), "log": 1 - math.exp(-5 * progress)}
        return s[self.annealing] * (1 - 1 / classes) + 1 / classes

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def show(self, views, t):
        return {"weak": views["weak"], "strong": views["strong"]}

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
