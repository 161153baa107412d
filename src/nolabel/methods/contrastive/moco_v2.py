r"""MoCo v2: find the key of the same image among a long queue of keys from a slowly moving encoder.

Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", 2020, arXiv:2003.04297.

    L = -log  exp(q . k+ / tau)  /  ( exp(q . k+ / tau) + sum_{k in queue} exp(q . k / tau) )                 (eq. 1)
    theta_k <- m theta_k + (1 - m) theta_q                                                                    (eq. 2)

Shapes: B images, P projection. Version 1 is `moco_v1`. On one process `splits` stand for the GPUs of the paper, whose
batch norms are apart; on several, each is a group at least. `symmetric` (of the authors' CIFAR code) is the mean of both
directions, not their sum.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import world
from nolabel.losses.contrastive import info_nce
from nolabel.networks.batchnorm import in_groups, shuffled
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class MoCo(Method):
    temperature: float = 0.2
    """tau of eq. 1"""
    momentum: float = 0.999
    """m of eq. 2"""
    queue: int = 65536
    """keys that are remembered"""
    hidden: int = 2048
    """width of the projection head's hidden layer; 0 for the linear head of version 1"""
    out: int = 128
    """P"""
    splits: int = 8
    """parts of the batch that batch norm sees apart, over all processes; keys are dealt out to them at random"""
    symmetric: bool = False
    """both views are queries in turn"""
    views: TwoViews = TwoViews(scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1))
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0)

    def build(self, data, image):
        widths = (self.hidden, self.out) if self.hidden else (self.out,)
        self.query = nn.Sequential(image, mlp(image.dim, *widths, norm=None))
        self.key = EMA(self.query)
        self.memory = Queue(self.queue, self.out)

    def forward(self, views, t):
        groups = max(1, self.splits // world())
        found, keys = [], []
        for one, other in (("a", "b"), ("b", "a"))[: 1 + self.symmetric]:
            keys.append(shuffled(self.key, views[other], groups))
            query_BP = in_groups(self.query, views[one], groups)
            found.append(torch.stack(info_nce(query_BP, keys[-1], self.memory.rows, self.temperature)))
        for key_BP in keys:
            self.memory.enqueue(key_BP)
        loss, accuracy = torch.stack(found).mean(0)
        return loss, {"instance_accuracy": accuracy.detach()}

    def after_step(self, t):
        self.key.update(self.query, self.momentum)

    def kept(self):
        return self.query[0]
