r"""rho-MoCo, rho-BYOL, rho-SimCLR: clips of one video at rho different times are views of the same thing.

Feichtenhofer, Fan, Xiong, Girshick, He, "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning",
CVPR 2021, arXiv:2104.14558.

    L = mean over clips r != s of a video of  l(q_r, k_s)                                                  (section 3)
    moco    l = -log exp(q.k / tau) / (exp(q.k / tau) + sum_queue exp(q.n / tau)),  k of the average net    (eq. 1)
    byol    l = 2 - 2 cos( head(q), k ),  k of the average net                                               (eq. 4)
    simclr  l = -log exp(q.k / tau) / sum over clips r, s of all videos, own excluded                        (eq. 2)

The image objectives are as they are; that things persist over time is all that is new. Shapes: R = rho clips, B videos,
D features, P projection. Differs: simclr sets clips against each other in pairs, so the other R - 2 clips of a video are
no negatives. The paper's batch norms are those of its GPUs with keys dealt out anew; here `splits` stand for the GPUs.
"""

from itertools import permutations
from typing import Literal

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import world
from nolabel.losses.contrastive import info_nce, nt_xent
from nolabel.losses.distill import negative_cosine
from nolabel.networks.batchnorm import in_groups, shuffled
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.video import Clips


class RhoClips(Method):
    base: Literal["moco", "byol", "simclr"] = "moco"
    """the image objective"""
    temperature: float = 0.1
    """tau of moco and simclr"""
    hidden: int = 2048
    """width of the heads' hidden layers (byol: 4096)"""
    out: int = 128
    """P (byol: 256)"""
    queue: int = 65536
    """keys of earlier batches that moco remembers"""
    momentum: tuple[float, float] = (0.994, 1.0)
    """of the average net of moco and byol (byol: 0.996), a cosine from first to last"""
    splits: int = 8
    """of moco: parts of the batch that batch norm sees apart, over all processes; keys are dealt out to them at random"""
    views: Clips = Clips(size=224, frames=8, stride=2, clips=2)  # two seconds
    optim: Optim = Optim("sgd", lr=0.4, weight_decay=1e-6, warmup_epochs=35)

    def build(self, data, video):
        widths = (self.hidden,) if self.base == "byol" else (self.hidden, self.hidden)
        self.online = nn.Sequential(video, mlp(video.dim, *widths, self.out))
        if self.base != "simclr":
            self.target = EMA(self.online)
        if self.base == "moco":
            self.memory = Queue(self.queue, self.out)
        if self.base == "byol":
            self.head = mlp(self.out, self.hidden, self.out)

    def forward(self, views, t):
        clips, (R, B) = views["clips"].flatten(0, 1), views["clips"].shape[:2]
        pairs = list(permutations(range(R), 2))
        groups = max(1, self.splits // world()) if self.base == "moco" else 1
        z_RBP = in_groups(self.online, clips, groups).unflatten(0, (R, B))
        if self.base == "simclr":
            found = [nt_xent(z_RBP[r], z_RBP[s], self.temperature) for r, s in pairs if r < s]
            loss, accuracy = (torch.stack(values).mean() for values in zip(*found))
            return loss, {"instance_accuracy": accuracy}
        key_RBP = shuffled(self.target, clips, groups).unflatten(0, (R, B))
        keys = torch.stack([key_RBP[s] for _, s in pairs])  # an index from the host would be waited for
        if self.base == "byol":
            guess_RBP = self.head(z_RBP.flatten(0, 1)).unflatten(0, (R, B))
            cosine = -negative_cosine(torch.stack([guess_RBP[r] for r, _ in pairs]), keys)
            return 2 - 2 * cosine, {"cosine": cosine.detach()}
        queries = torch.stack([z_RBP[r] for r, _ in pairs])
        loss, accuracy = info_nce(queries.flatten(0, 1), keys.flatten(0, 1), self.memory.rows, self.temperature)
        self.memory.enqueue(key_RBP.transpose(0, 1).flatten(0, 1))
        return loss, {"instance_accuracy": accuracy}

    def after_step(self, t):
        if self.base != "simclr":
            self.target.update(self.online, t.cosine(*self.momentum))

    def kept(self):
        return self.online[0]
