r"""Shuffle and learn: tell whether three frames are in a possible order.

Misra, Zitnick, Hebert, "Shuffle and Learn: Unsupervised Learning Using Temporal Order Verification", ECCV 2016,
arXiv:1603.08561.

    L = CE( g(f(x_1), f(x_2), f(x_3)), ordered ),   a < b < c < d < e:                                     (section 3)
    ordered (b, c, d) and (d, c, b),   not (b, a, d), (b, e, d), (d, a, b), (d, e, b)

All tuples of a clip end with the same two frames, so only the one between them decides. Both classes weigh the same.
Shapes: B clips, 5 frames, 6 tuples, N = 6 B of them, D features, E = 3 D. f is the encoder and a layer on all places of
its last map, as on AlexNet's: a mean over places would forget where things are. Differs: of every clip all six tuples are
used, a third of them ordered, where the paper draws tuples, a quarter of them ordered; windows are chosen by change of
pixels, not by optical flow.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.networks.mlp import mlp
from nolabel.networks.painter import map_shape
from nolabel.views.video import FiveFrames


class ShuffleAndLearn(Method):
    views: FiveFrames = FiveFrames(size=224, scale=(0.5, 1.0), gap=(2, 8))
    optim: Optim = Optim("sgd", lr=0.01, weight_decay=5e-4, warmup_epochs=0, drops=(0.7, 0.9))
    features: int = 1024
    """D"""
    hidden: int = 0
    """width of a hidden layer of g; 0: linear as in the paper, which then sums up what each frame says by itself, and so
    can only know middle frames by their looks, not by their place between two others"""

    def build(self, data, video):
        if not hasattr(video, "frames"):
            raise UserError("shuffle_and_learn compares frames: take an encoder of images, such as tiny or resnet18")
        self.encoder = video
        self.code = nn.Linear(math.prod(map_shape(video.net, self.views.size)), self.features)
        self.classifier = mlp(3 * self.features, *([self.hidden] if self.hidden else []), 2)

    def forward(self, views, t):
        x = views["frames"].transpose(1, 2).flatten(0, 1)
        places = self.encoder.net.maps(x)[1][-1]
        h_B5D = F.relu(self.code(places.flatten(1))).unflatten(0, (-1, 5))
        a, b, c, d, e = h_B5D.unbind(1)
        tuples = [(b, c, d), (d, c, b), (b, a, d), (b, e, d), (d, a, b), (d, e, b)]
        ordered_6 = torch.arange(6, device=a.device) < 2
        h_NE = torch.stack([torch.cat(three, 1) for three in tuples], 1).flatten(0, 1)
        logits_B62 = self.classifier(h_NE).float().unflatten(0, (-1, 6))
        weight_6 = torch.where(ordered_6, 1 / 4, 1 / 8)
        loss_B6 = F.cross_entropy(logits_B62.mT, ordered_6.long().expand(len(a), 6), reduction="none")
        right_6 = (logits_B62.argmax(2) == ordered_6).float().mean(0)
        return (loss_B6 * weight_6).sum(1).mean(), {"order_accuracy": (right_6 * weight_6).sum()}
