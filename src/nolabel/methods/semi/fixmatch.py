r"""FixMatch: what the net is sure of on a weak view is the label that it learns on a strong view.

Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel, "FixMatch: Simplifying Semi-Supervised Learning with
Consistency and Confidence", NeurIPS 2020, arXiv:2001.07685.

    L_s = 1 / B     sum_b  H( y_b, p(w(x_b)) )                                                              (eq. 3)
    L_u = 1 / mu B  sum_b  1[ max q_b >= tau ]  H( argmax q_b, p(S(u_b)) ),   q_b = p(w(u_b)), no gradient  (eq. 4)
    L   = L_s + lambda L_u

Shapes: n rows with a label, u = mu n without, C classes. One forward pass over all views, so batch norms see all of
them. What is kept is the running average. Differs: the rate follows a half cosine to zero, not cos(7 pi k / 16 K);
labelled samples are not among the unlabelled ones.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.losses.semi import fixmatch
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.views.weak import WeakStrong


class FixMatch(Method):
    mu: int = 7
    """samples without a label for each one with a label"""
    threshold: float = 0.95
    """tau"""
    unlabelled_weight: float = 1.0
    """lambda"""
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
        supervised = F.cross_entropy(labelled_nC, views["label"][:n])
        consistency, sure = fixmatch(strong_uC, weak_uC, self.threshold)
        loss = supervised + self.unlabelled_weight * consistency
        return loss, {"supervised": supervised.detach(), "consistency": consistency.detach(), "sure": sure}

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def show(self, views, t):
        return {"weak": views["weak"], "strong": views["strong"]}

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
