r"""Supervised: the labelled samples alone, the baseline that every use of unlabelled ones must beat.

Oliver, Odena, Raffel, Cubuk, Goodfellow, "Realistic Evaluation of Deep Semi-Supervised Learning Algorithms", NeurIPS
2018, arXiv:1804.09170.

    L = 1 / B  sum_b  H( y_b, p(w(x_b)) )

Shapes: B rows, all with a label, C classes. Same views, optimiser and running average as FixMatch's, so that the two
differ in the unlabelled samples alone. Differs: the paper tunes this baseline as long as the methods; tune it, too.
"""

import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.views.weak import Weak


class Supervised(Method):
    labelled = 1.0
    momentum: float = 0.999
    """of the running average that is evaluated"""
    smoothing: float = 0.0
    """share of the target that is spread over all classes"""
    views: Weak = Weak(size=32)
    optim: Optim = Optim(
        "sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup_epochs=0, scaled=False
    )  # fmt: skip

    def build(self, data, image):
        self.model = classifier(image, data)
        self.average = EMA(self.model, buffers="ema")

    def forward(self, views, t):
        logits_BC = self.model(views["x"]).float()
        accuracy = (logits_BC.argmax(1) == views["label"]).float().mean()
        loss = F.cross_entropy(logits_BC, views["label"], label_smoothing=self.smoothing)
        return loss, {"training_accuracy": accuracy}

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
