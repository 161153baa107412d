r"""DeeperCluster: learn by which turn an image was rotated together with the cluster it is in, a class for each pair.

Caron, Bojanowski, Mairal, Joulin, "Unsupervised Pre-Training of Image Features on Non-Curated Data", ICCV 2019,
arXiv:1905.01278.

    s_n = (turn, super-cluster of x_n),   z_n = cluster of x_n inside its super-cluster                (section 3.2)
    L = mean_n w_n ( CE( V h_n, s_n ) + CE( W_{s_n} h_n, z_n ) ),   h_n = relu(g(f(turned x_n)))

Shapes: B images, N turned ones, R = 4 turns, M super-clusters, S = R M super-classes, k = K / M clusters in each. Clusters
are k-means on whitened features of upright images, found anew every few epochs, with fresh classifiers; that of turns
alone (M = 1) goes on. w_n makes super-clusters equally frequent and so the clusters inside each. M = K = 1 is RotNet. f
sees edges, as in DeepCluster. Differs: each image takes one turn a step, dealt by a hash of image and step, where each
group of ranks has a turn of its own; one optimiser serves all; `hidden` 0 is as in DeepCluster. Every rank holds the
classifiers of all super-classes: K is what its memory bears.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.core.random import deal
from nolabel.encoders.wrapped import Edges
from nolabel.losses.cluster import kmeans, pca_whitening
from nolabel.networks.mlp import fully_connected
from nolabel.views.image import OneView

TURNS = 4


class DeeperCluster(Method):
    clusters: int = 320000
    """K, in all super-clusters together"""
    super_clusters: int = 4
    """M"""
    reassign: int = 3
    """epochs between two clusterings"""
    iterations: int = 10
    """rounds of k-means"""
    pca: int = 4096
    """dimensions that whitening keeps"""
    hidden: int = 4096
    """width of the two layers between encoder and classifiers; 0 leaves them out"""
    dropout: float = 0.5
    """in front of each of these layers"""
    all_turns: bool = False
    """every image of a batch in all four turns, as RotNet has them: four times the work, and a gradient that varies far less"""
    sobel: bool = True
    """edges of gray images in place of colours"""
    views: OneView = OneView(size=224, scale=(0.08, 1.0))
    optim: Optim = Optim("sgd", lr=0.1, weight_decay=1e-5, scaled=False, warmup_epochs=0, drops=(1.0,))

    def build(self, data, image):
        self.encoder = Edges(image) if self.sobel else image
        self.head = fully_connected(image.dim, self.hidden, self.dropout)
        width, inside = self.hidden or image.dim, self.clusters // self.super_clusters
        self.super_classifier = nn.Linear(width, TURNS * self.super_clusters)
        self.classifiers = nn.Linear(width, TURNS * self.super_clusters * inside)
        self.register_buffer("cluster", torch.zeros(2, data.size, dtype=torch.long))
        self.register_buffer("weight", torch.ones(self.super_clusters, inside))

    def begin_epoch(self, t, data):
        if round(t.epoch) % self.reassign:
            return
        count, inside = self.cluster.shape[1], self.weight.shape[1]
        f_ND = data.encode(nn.Sequential(self.encoder, self.head))
        mean_D, matrix_DP = pca_whitening(f_ND[own_rows(count)], self.pca)
        f_NP = F.normalize((f_ND - mean_D) @ matrix_DP, dim=1)
        outer_N, inner_N = self.cluster
        outer_N.copy_(join_rows(kmeans(f_NP[own_rows(count)], self.super_clusters, self.iterations)[1], count))
        for outer in range(self.super_clusters):
            row_n = (outer_N == outer).nonzero()[:, 0]
            if len(row_n):
                f_nP = f_NP[row_n[own_rows(len(row_n))]]
                inner_N[row_n] = join_rows(kmeans(f_nP, min(inside, len(row_n)), self.iterations)[1], len(row_n))
        size_MK = (outer_N * inside + inner_N).bincount(minlength=self.weight.numel()).view_as(self.weight)
        used_M = (size_MK > 0).sum(1, keepdim=True)
        self.weight.copy_(count / ((used_M > 0).sum() * used_M * size_MK).clamp_min(1))
        self.classifiers.reset_parameters()
        if self.super_clusters > 1:  # else its classes are the turns, which stay what they are
            self.super_classifier.reset_parameters()

    def forward(self, views, t):
        index_B, every_R = views["index"], torch.arange(TURNS, device=views["x"].device)
        turned_BRCSS = torch.stack([torch.rot90(views["x"], turn, (2, 3)) for turn in range(TURNS)], 1)
        turn_BT = every_R.expand(len(index_B), -1) if self.all_turns else deal(index_B, t.step, TURNS)[:, None]
        x_NCSS = turned_BRCSS[torch.arange(len(index_B), device=index_B.device)[:, None], turn_BT].flatten(0, 1)
        h_ND = F.relu(self.head(self.encoder(x_NCSS.contiguous(memory_format=torch.channels_last))))
        outer_N, inner_N = self.cluster[:, index_B].repeat_interleave(turn_BT.shape[1], 1)
        super_N = turn_BT.flatten() * self.super_clusters + outer_N
        super_NS = self.super_classifier(h_ND).float()
        inside_NSK = self.classifiers(h_ND).float().unflatten(1, (TURNS * self.super_clusters, -1))
        inside_NK = inside_NSK.take_along_dim(super_N[:, None, None], 1)[:, 0]
        losses_N = (F.cross_entropy(super_NS, super_N, reduction="none")
                    + F.cross_entropy(inside_NK, inner_N, reduction="none"))  # fmt: skip
        logs = {
            "super_accuracy": (super_NS.argmax(1) == super_N).float().mean(),
            "cluster_accuracy": (inside_NK.argmax(1) == inner_N).float().mean(),
        }
        return (self.weight[outer_N, inner_N] * losses_N).mean(), logs
