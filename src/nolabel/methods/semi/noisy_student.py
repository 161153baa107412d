r"""Noisy Student: a teacher without noise labels softly, a student of the same size learns under noise, and takes over.

Xie, Luong, Hovy, Le, "Self-training with Noisy Student improves ImageNet classification", CVPR 2020, arXiv:1911.04252.

    L = 1 / n  sum_i  H( y_i, p(noised x_i) )  +  sum_j  w_j H( q_j, p(noised u_j) ) / sum_j w_j           (algorithm 1)
    q_j = p_teacher(u_j), plain view, no dropout;   w_j: filter max q_j > 0.3, then every class counts alike

Shapes: n rows with a label, N samples, C classes. Noise: two operations of RandAugment on the input, dropout before the
classifier; stochastic depth is an option of encoders. Differs: magnitudes of RandAugment are random, not 27 of 30; where
the paper duplicates the images of small classes they weigh more; the student starts afresh each round and is not larger
than its teacher, whose encoder is the only one.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, labelled_rows
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.semi import balanced_weights, weighted_cross_entropy
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA
from nolabel.views.weak import WeakStrong


class NoisyStudent(Method):
    rounds: int = 3
    """students after the first teacher, which learns from the labels alone"""
    confidence: float = 0.3
    """guesses below it are left out"""
    each_class: int = 130_000
    """guesses that count in each class; 0 for the mean of the classes"""
    dropout: float = 0.5
    """of the student, before the classifier"""
    mu: int = 3
    """samples without a label for each one with a label"""
    hard: bool = False
    """learn the most probable class instead of the probabilities"""
    views: WeakStrong = WeakStrong(size=224, operations=2, cutout=0.0)
    optim: Optim = Optim("sgd", lr=0.016, momentum=0.9, weight_decay=1e-5, warmup_epochs=5, scaled=True)

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    @property
    def stages(self):
        return 1 + self.rounds

    def build(self, data, image):
        encoder, linear = classifier(image, data)
        self.model = nn.Sequential(encoder, nn.Dropout(self.dropout), linear)
        self.start = EMA(self.model)  # never moves: what every student starts from
        self.register_buffer("guess", torch.zeros(data.size, len(data.classes)))
        self.register_buffer("trust", torch.zeros(data.size))

    def begin_stage(self, t, data):
        if t.stage == 0:
            return
        p_NC = mean_over_ranks(data.encode(self.model).softmax(1))  # each rank has batch norm statistics of its own
        self.trust.copy_(balanced_weights(p_NC, data.labels < 0, self.confidence, self.each_class))
        self.guess.copy_(F.one_hot(p_NC.argmax(1), p_NC.shape[1]) if self.hard else p_NC)
        self.model.load_state_dict(self.start.net.state_dict())

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        if t.stage == 0:
            loss = F.cross_entropy(self.model(views["strong"][:n]).float(), views["label"][:n])
            return loss, {"supervised": loss.detach()}
        rows = views["index"][n:]
        logits_BC = self.model(views["strong"]).float()
        supervised = F.cross_entropy(logits_BC[:n], views["label"][:n])
        pseudo = weighted_cross_entropy(logits_BC[n:], self.guess[rows], self.trust[rows])
        kept = (self.trust[rows] > 0).float().mean()
        return supervised + pseudo, {"supervised": supervised.detach(), "pseudo": pseudo.detach(), "kept": kept}

    def show(self, views, t):
        return {"plain": views["weak"], "noised": views["strong"]}

    def predict(self, x):
        return self.model(x)

    def kept(self):
        return self.model[0]
