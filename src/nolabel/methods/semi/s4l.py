r"""S4L-Rotation: the net names the class where it is known, and the turn of the image everywhere.

Zhai, Oliver, Kolesnikov, Beyer, "S4L: Self-Supervised Semi-Supervised Learning", ICCV 2019, arXiv:1905.03670.

    L = L_class  +  w / 2 ( L_rot(labelled) + L_rot(unlabelled) )                                              (eq. 1-2)
    L_rot = 1 / 4B  sum_i sum_r  H( r, p_rot(turn_r x_i) ),   L_class over all four turns of the labelled images

Shapes: n rows with a label, B rows in all, R = 4 turns, D features, C classes. The four turns of an image share its class.
Differs: what is judged is a running average, the paper's net is the last one; the paper's MOAM, which adds VAT, entropy
minimisation and a second round, is left to their own files.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, labelled_rows
from nolabel.networks.classifier import classifier
from nolabel.networks.ema import EMA, from_start
from nolabel.views.weak import Weak

TURNS = 4


class S4L(Method):
    mu: int = 1
    """samples without a label for each one with a label"""
    rotation_weight: float = 1.0
    """w"""
    momentum: float = 0.999
    """of the running average that is evaluated"""
    views: Weak = Weak(size=224)
    optim: Optim = Optim(
        "sgd", lr=0.03, momentum=0.9, weight_decay=1e-3, warmup_epochs=5, drops=(0.7, 0.8, 0.9), scaled=False
    )  # fmt: skip

    @property
    def labelled(self):
        return 1 / (1 + self.mu)

    def build(self, data, image):
        self.model = classifier(image, data)
        self.turns_head = nn.Linear(image.dim, TURNS)
        self.average = EMA(self.model, buffers="ema")

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        turned = torch.stack([torch.rot90(views["x"], r, (2, 3)) for r in range(TURNS)], 1)  # (B, R, C, S, S)
        h_BRD = self.model[0](turned.flatten(0, 1)).unflatten(0, (-1, TURNS))
        logits_nRC, turn_BRR = self.model[1](h_BRD[:n]).float(), self.turns_head(h_BRD).float()
        label_nR = views["label"][:n, None].expand(-1, TURNS)
        turn_BR = torch.arange(TURNS, device=h_BRD.device).expand(len(h_BRD), -1)
        known = F.cross_entropy(logits_nRC.flatten(0, 1), label_nR.flatten())
        rotation_BR = F.cross_entropy(turn_BRR.mT, turn_BR, reduction="none")
        rotation = (rotation_BR[:n].mean() + rotation_BR[n:].mean()) / 2
        right = (turn_BRR.argmax(-1) == turn_BR).float().mean()
        logs = {"supervised": known.detach(), "rotation": rotation.detach(), "rotation_accuracy": right}
        return known + self.rotation_weight * rotation, logs

    def after_step(self, t):
        self.average.update(self.model, from_start(self.momentum, t.step))

    def predict(self, x):
        return self.average(x)

    def kept(self):
        return self.average.net[0]
