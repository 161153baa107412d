r"""Mean teacher: the student agrees with a running average of itself that sees the sample through another view.

Tarvainen, Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve semi-supervised
deep learning results", NeurIPS 2017, arXiv:1703.01780.

    J(theta) = E | f(x, theta', eta') - f(x, theta, eta) |^2,   theta' <- alpha theta' + (1 - alpha) theta     (eq. 1-2)
    L = n/B CE(f(a_n), y_n) + w(t) J + d |logits - logits'|^2,   w(t) = w_max exp(-5 (1 - min(1, t / T))^2)

Shapes: n rows with a label, B rows in all, C classes. Probabilities are compared, by the mean over classes. As in the
authors' code the sum over labelled rows is divided by all rows, which is what their w_max of 100 is meant for; the student
has two heads, one for the label and one for the teacher, tied by d; and alpha grows from 0 as 1 - 1 / (t + 1). What is kept
is the teacher.
"""

import math

import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.losses.semi import squared_difference
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA
from nolabel.views.weak import TwoWeak


class MeanTeacher(Method):
    mu: int = 3
    """samples without a label for each one with a label"""
    momentum: float = 0.97
    """largest alpha"""
    consistency_weight: float = 100.0
    """w_max"""
    ramp_epochs: float = 5.0
    """T, over which w(t) grows"""
    tie: float = 0.01
    """d, how strongly the two heads are tied"""
    views: TwoWeak = TwoWeak(size=32)
    optim: Optim = Optim(
        "sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-4, warmup_epochs=0, scaled=False
    )  # fmt: skip

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    def build(self, data, image):
        self.student = classifier(image, data, outputs=2)
        self.teacher = EMA(self.student, buffers="ema", noise=True)

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        logits_BC, agreeing_BC = self.student(views["a"]).float().chunk(2, 1)
        teacher_BC, _ = self.teacher(views["b"]).float().chunk(2, 1)
        supervised = F.cross_entropy(logits_BC[:n], views["label"][:n], reduction="sum") / len(logits_BC)
        consistency = squared_difference(agreeing_BC, teacher_BC)
        tied = F.mse_loss(logits_BC, agreeing_BC)
        loss = supervised + self.weight(t) * consistency + self.tie * tied
        return loss, {"supervised": supervised.detach(), "consistency": consistency.detach()}

    def weight(self, t):
        """w(t)"""
        done = min(1.0, t.epoch / self.ramp_epochs) if self.ramp_epochs > 0 else 1.0
        return self.consistency_weight * math.exp(-5 * (1 - done) ** 2)

    def after_step(self, t):
        self.teacher.update(self.student, min(1 - 1 / (t.step + 1), self.momentum))

    def predict(self, x):
        return self.teacher(x).chunk(2, 1)[0]

    def kept(self):
        return self.teacher.net[0]
