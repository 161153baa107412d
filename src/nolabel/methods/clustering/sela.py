r"""SeLA: label all images at once so that all labels are equally frequent and the network likes them, then learn them.

Asano, Rupprecht, Vedaldi, "Self-labelling via Simultaneous Clustering and Representation Learning", ICLR 2020,
arXiv:1911.05371.

    min over q, theta of  -1/N sum_i sum_y q(y | x_i) log p_theta(y | x_i),   sum_i q(y | x_i) = N / K      (section 3)
    Q = diag(alpha) P^lambda diag(beta) with both marginals uniform, label_i = argmax_y Q_yi                (Sinkhorn-Knopp)
    L = 1 / H sum_h CE( g_h(f(x_i)), label_hi )

Shapes: B images of N, D features, H heads, K labels a head. A constant encoder costs ln K. Transport is over the whole
set, in float64. The r-th of R label optimisations is due at (r / (R - 1))^2 of the run. Differs: they happen at the
beginning of an epoch, at most one each, and see plain views in evaluation mode.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.losses.cluster import sinkhorn
from nolabel.views.image import OneView


class SeLA(Method):
    clusters: int = 3000
    """K"""
    heads: int = 10
    """H, labellings that share the encoder"""
    strength: float = 25
    """lambda: the larger, the closer to the best equal partition"""
    tolerance: float = 0.1
    """change of the transport's scales, summed over all images, at which it ends"""
    rounds: int = 100
    """R, label optimisations of a run, dense at its beginning"""
    views: OneView = OneView(size=224, scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, gray=0.2)
    optim: Optim = Optim("sgd", lr=0.05, weight_decay=1e-5, scaled=False, warmup_epochs=0, drops=(0.375, 0.75, 0.875))

    def build(self, data, image):
        self.encoder = image
        self.classifiers = nn.Linear(image.dim, self.heads * self.clusters)
        self.register_buffer("label", torch.zeros(self.heads, data.size, dtype=torch.long))
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def begin_epoch(self, t, data):
        due = 1 + math.floor(math.sqrt(t.progress) * (self.rounds - 1))
        if due > self.done:
            self.done.fill_(due)
            count = self.label.shape[1]
            h_MD = data.encode(self.encoder)[own_rows(count)]
            with torch.no_grad():
                for head in range(self.heads):
                    rows = slice(head * self.clusters, (head + 1) * self.clusters)
                    logits_MK = F.linear(h_MD, self.classifiers.weight[rows], self.classifiers.bias[rows])
                    log_p_MK = logits_MK.double().log_softmax(1)
                    q_MK = sinkhorn(log_p_MK, 1 / self.strength, 10_000, tolerance=self.tolerance)
                    self.label[head] = join_rows(q_MK.argmax(1), count)

    def forward(self, views, t):
        logits_BHK = self.classifiers(self.encoder(views["x"])).float().unflatten(1, (self.heads, self.clusters))
        target_BH = self.label[:, views["index"]].T
        loss = F.cross_entropy(logits_BHK.flatten(0, 1), target_BH.flatten())
        accuracy = (logits_BHK.argmax(-1) == target_BH).float().mean()
        return loss, {"label_accuracy": accuracy}
