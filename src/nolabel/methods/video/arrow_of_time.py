r"""Arrow of time: tell whether a clip runs forwards or backwards.

Wei, Lim, Zisserman, Freeman, "Learning and Using the Arrow of Time", CVPR 2018 (first asked by Pickup, Pan, Wei, Shih,
Zhang, Zisserman, Scholkopf, Freeman, "Seeing the Arrow of Time", CVPR 2014).

    L = 1/2 BCE( g(f(x)), 0 ) + 1/2 BCE( g(f(reverse x)), 1 )                                       (section 3)

Both directions of a clip are in one batch, so nothing but time tells them apart. Only what cannot be undone does: a
process that is the same backwards (`reversible` of the toy world) must stay at chance, 0.5. Shapes: B clips, D features.
Differs: gray with its changes from frame to frame stands for the paper's optical flow, and the encoder makes one vector
of the clip where the paper joins several groups of frames late.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.views.video import TwoDirections


class ArrowOfTime(Method):
    views: TwoDirections = TwoDirections(size=224, scale=(0.5, 1.0), frames=16, stride=1)
    optim: Optim = Optim("sgd", lr=0.01, weight_decay=5e-4, warmup_epochs=0, drops=(0.5, 0.8))

    def build(self, data, video):
        self.encoder = video
        self.classifier = nn.Linear(video.dim, 1)

    def forward(self, views, t):
        logit_2B = self.classifier(self.encoder(torch.cat((views["a"], views["b"])))).float()[:, 0]
        backwards_2B = torch.arange(len(logit_2B), device=logit_2B.device) >= len(views["a"])
        accuracy = ((logit_2B > 0) == backwards_2B).float().mean()
        return F.binary_cross_entropy_with_logits(logit_2B, backwards_2B.float()), {"direction_accuracy": accuracy}
