r"""DepthContrast: a cloud is told from all others, seen as points and as voxels, within and across the two formats.

Zhang, Girdhar, Joulin, Misra, "Self-Supervised Pretraining of 3D Features on any Point-Cloud", ICCV 2021,
arXiv:2101.02691.

    L = 1/2 sum over formats f, g of  -log  exp(q_f . k_g / tau)  /  (exp(q_f . k_g / tau) + sum_n exp(q_f . n_g / tau))

with queries q of one view, keys k of the other view by running averages, and negatives n from the queue of format g:
f = g within a format, f != g across.                                                                    (eq. 1 to 3)
Shapes: B clouds, O embedding. Differs: the voxel net is a small dense one instead of a sparse U-Net, and views crop by
the share of points instead of by the sides of the cuboid. What is kept is the encoder of points.
"""

from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.networks.voxels import VoxelNet
from nolabel.views.points import TwoClouds


class DepthContrast(Method):
    temperature: float = 0.1
    """tau"""
    queue: int = 131072
    """keys of each format that serve as negatives"""
    momentum: float = 0.999
    """of the running averages"""
    hidden: int = 512
    """width of the hidden layer of the heads"""
    out: int = 128
    """O"""
    cells: int = 32
    """voxels a side"""
    filters: int = 32
    """channels of the voxel net's first layer"""
    views: TwoClouds = TwoClouds(points=20000, pairs=0, crop=(0.3, 1.0), drop=0.2, flip=0.5)
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, final_lr=1.2e-4, warmup_epochs=0)

    def build(self, data, points):
        nets = {"points": points, "voxels": VoxelNet(self.cells, self.filters)}
        self.online = nn.ModuleDict(
            {k: nn.Sequential(net, mlp(net.dim, self.hidden, self.out, norm=None)) for k, net in nets.items()}
        )
        self.average = nn.ModuleDict({k: EMA(net) for k, net in self.online.items()})
        self.queues = nn.ModuleDict({k: Queue(self.queue, self.out) for k in nets})

    def forward(self, views, t):
        query_BO = {k: net(views["a"]) for k, net in self.online.items()}
        key_BO = {k: net(views["b"]) for k, net in self.average.items()}
        loss, logs = 0.0, {}
        for one, q_BO in query_BO.items():
            for other, k_BO in key_BO.items():
                part, logs[f"{one}_{other}_accuracy"] = info_nce(q_BO, k_BO, self.queues[other].rows, self.temperature)
                loss = loss + part / 2
        for k, queue in self.queues.items():
            queue.enqueue(key_BO[k])
        return loss, logs

    def after_step(self, t):
        for k, average in self.average.items():
            average.update(self.online[k], self.momentum)

    def kept(self):
        return self.online["points"][0]
