r"""Local aggregation: pull an image towards its close neighbours, relative to those in its background.

Zhuang, Zhai, Yamins, "Local Aggregation for Unsupervised Learning of Visual Embeddings", ICCV 2019, arXiv:1903.12355.

    P(A | v) = sum_{j in A} exp(v . b_j / tau) / Z                                                     (section 3.1)
    L = -log  P(C_i and B_i | v_i) / P(B_i | v_i),   b_i <- n(m b_i + (1 - m) v_i)

B_i are the rows of the memory bank nearest to v_i, C_i those in its cluster in any of H clusterings of the bank, found
anew every epoch. The first epochs learn to tell instances apart: L = -log P(i | v_i). Shapes: B images of N, D
features, P embedding. A constant encoder costs ln |B_i| - ln |C_i and B_i|. Differs: an image's own row is always in
B_i and C_i, where the code adds 1e-7 to the ratio; the bank starts with the embeddings of all images instead of noise;
the first epochs have the exact softmax over the bank instead of noise contrast.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.losses.cluster import kmeans, local_aggregation
from nolabel.losses.contrastive import info_nce
from nolabel.networks.memory import MemoryBank
from nolabel.views.image import OneView


class LocalAggregation(Method):
    out: int = 128
    """P"""
    temperature: float = 0.07
    """tau"""
    momentum: float = 0.5
    """m of the bank"""
    background: int = 4096
    """|B_i|"""
    clusters: int = 30000
    """in each clustering"""
    clusterings: int = 10
    """H, k-means of their own starts"""
    iterations: int = 20
    """rounds of k-means"""
    instance_epochs: int = 10
    """first epochs, of instance discrimination"""
    views: OneView = OneView(size=224, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, gray=0.2)
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, scaled=False, warmup_epochs=0, drops=(0.81, 0.95))

    def build(self, data, image):
        self.encoder = image
        self.projector = nn.Linear(image.dim, self.out)
        self.bank = MemoryBank(data.size, self.out, self.momentum)
        self.register_buffer("cluster", torch.zeros(self.clusterings, data.size, dtype=torch.long))

    def begin_stage(self, t, data):
        self.bank.rows.copy_(F.normalize(data.encode(nn.Sequential(self.encoder, self.projector)), dim=1))

    def begin_epoch(self, t, data):
        if int(t.epoch) >= self.instance_epochs:
            count = len(self.bank.rows)
            for h in range(self.clusterings):
                _, cluster = kmeans(self.bank.rows[own_rows(count)], self.clusters, self.iterations)
                self.cluster[h] = join_rows(cluster, count)

    def forward(self, views, t):
        index_B, v_BP = views["index"], self.projector(self.encoder(views["x"]))
        if int(t.epoch) < self.instance_epochs:
            loss, accuracy = info_nce(v_BP, self.bank(index_B), self.bank.rows, self.temperature, index_B)
            logs = {"instance_accuracy": accuracy}
        else:
            loss, close = local_aggregation(
                v_BP, self.bank.rows, index_B, self.cluster, self.background, self.temperature
            )
            logs = {"close_neighbours": close}
        self.bank.update(index_B, v_BP)
        return loss, logs
