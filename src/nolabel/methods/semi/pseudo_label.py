r"""Self-training with pseudo-labels: the net labels what has no label, and trains again on both, round after round.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML workshop
2013; rounds and rules as in Scudder, "Probability of error of some adaptive pattern-recognition machines", 1965.

    L   = 1 / n  sum_i  H( y_i, p(x_i) )  +  lambda  sum_j  w_j H( y'_j, p(x_j) ) / sum_j w_j                     (eq. 15)
    y'_j = argmax p_{r-1}(x_j),   w_j by the rule:
      top       1 for the most confident share r `grow` of each class in round r, 0 for the others
      all       1
      weighted  max p_{r-1}(x_j)

Shapes: n rows with a label, N samples, C classes. Round 0 is supervised; each round trains from the same start on labels
that the last round's net gave to plain views in evaluation mode. Labelled samples keep their label. Differs: Lee's net
labels anew at every step, so that lambda grows from 0 as its guesses get better; a round's labels stay, and so does lambda.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.semi import most_confident, weighted_cross_entropy
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA
from nolabel.views.weak import Weak


class PseudoLabel(Method):
    rounds: int = 3
    """R, rounds of self-training after the supervised one; 0 is the supervised baseline"""
    rule: Literal["top", "all", "weighted"] = "top"
    """which guesses count"""
    grow: float = 0.2
    """of rule top: how much larger a share is kept each round"""
    threshold: float = 0.0
    """guesses below this confidence never count"""
    per_class: bool = True
    """of rule top: the share is taken of each guessed class, not of all samples"""
    warm: bool = False
    """go on from the last round's net instead of from the start"""
    mu: int = 1
    """samples without a label for each one with a label"""
    pseudo_weight: float = 1.0
    """lambda"""
    views: Weak = Weak(size=32)
    optim: Optim = Optim(
        "sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup_epochs=0, scaled=False
    )  # fmt: skip

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    @property
    def stages(self):
        return 1 + self.rounds

    def build(self, data, image):
        self.model = classifier(image, data)
        self.start = EMA(self.model)  # never moves: what every round starts from
        self.register_buffer("guess", torch.zeros(data.size, dtype=torch.long))
        self.register_buffer("trust", torch.zeros(data.size))
        self.register_buffer("changed", torch.ones(()))

    def begin_stage(self, t, data):
        if t.stage == 0:
            return
        p_NC = mean_over_ranks(data.encode(self.model).softmax(1))  # each rank has batch norm statistics of its own
        confidence_N, guess_N = p_NC.max(1)
        allowed_N = (data.labels < 0) & (confidence_N >= self.threshold)
        trust_N = allowed_N.float()
        if self.rule == "top":
            trust_N = most_confident(p_NC, allowed_N, min(1.0, t.stage * self.grow), self.per_class).float()
        elif self.rule == "weighted":
            trust_N = trust_N * confidence_N
        self.changed.copy_((guess_N != self.guess).float().mean())
        self.guess.copy_(guess_N)
        self.trust.copy_(trust_N)
        if not self.warm:
            self.model.load_state_dict(self.start.net.state_dict())

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        if t.stage == 0:
            loss = F.cross_entropy(self.model(views["x"][:n]).float(), views["label"][:n])
            return loss, {"supervised": loss.detach()}
        rows = views["index"][n:]
        logits_BC = self.model(views["x"]).float()
        supervised = F.cross_entropy(logits_BC[:n], views["label"][:n])
        pseudo = weighted_cross_entropy(logits_BC[n:], self.guess[rows], self.trust[rows])
        logs = {
            "supervised": supervised.detach(),
            "pseudo": pseudo.detach(),
            "trusted": self.trust[rows].mean(),
            "labels_changed": self.changed.clone(),
        }
        return supervised + self.pseudo_weight * pseudo, logs

    def predict(self, x):
        return self.model(x)

    def kept(self):
        return self.model[0]
