r"""DeepCluster v2: k-means on last epoch's projections, and every crop predicts its image's cluster by the centroids.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", NeurIPS 2020, arXiv:2006.09882, appendix D; after Caron, Bojanowski, Joulin, Douze, "Deep Clustering for
Unsupervised Learning of Visual Features", ECCV 2018.

    C_h, y_h = spherical k-means of the projections of large crop h mod 2, kept from the epoch before
    L = 1 / H sum_h mean over crops v of  -log softmax(z_v . C_h / tau)[ y_h ]

Shapes: V crops, B images of N, D features, P projection, H heads, K clusters a head. Centroids are no parameters. A
constant encoder costs ln K. Differs: before the first epoch the banks are filled with plain views; an empty cluster
splits a large one; an image that an epoch left out keeps its older projection instead of going without label.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.losses.cluster import kmeans, products, usage
from nolabel.losses.geometry import feature_std
from nolabel.networks.memory import MemoryBank
from nolabel.networks.mlp import mlp
from nolabel.networks.multicrop import each_crop
from nolabel.views.crops import SWAV_VIEWS
from nolabel.views.image import MultiCrop


class DeepClusterV2(Method):
    prototypes: int = 3000
    """K"""
    heads: int = 3
    """H, k-means of their own starts"""
    iterations: int = 10
    """rounds of k-means"""
    hidden: int = 2048
    """width of the projection head's hidden layer"""
    out: int = 128
    """P"""
    temperature: float = 0.1
    """tau"""
    views: MultiCrop = SWAV_VIEWS
    optim: Optim = Optim("lars", lr=0.3, weight_decay=1e-6, warmup_epochs=10, final_lr=0.0048)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.out)
        self.banks = nn.ModuleList(MemoryBank(data.size, self.out, momentum=0.0) for _ in range(2))
        self.register_buffer("centroids", torch.zeros(self.heads, self.prototypes, self.out))
        self.register_buffer("cluster", torch.zeros(self.heads, data.size, dtype=torch.long))

    def begin_epoch(self, t, data):
        if t.step == 0:
            z_NP = F.normalize(data.encode(nn.Sequential(self.encoder, self.projector)), dim=1)
            for bank in self.banks:
                bank.rows.copy_(z_NP)
        count = self.cluster.shape[1]
        for h in range(self.heads):
            rows = self.banks[h % 2].rows[own_rows(count)]
            centroids, cluster = kmeans(rows, self.prototypes, self.iterations, spherical=True)
            self.centroids[h] = centroids
            self.cluster[h] = join_rows(cluster, count)

    def forward(self, views, t):
        h_VBD = each_crop(self.encoder, views)
        z_VBP = F.normalize(self.projector(h_VBD.flatten(0, 1)).float(), dim=1).unflatten(0, h_VBD.shape[:2])
        logits_HVBK = products(z_VBP, self.centroids[:, None]) / self.temperature
        target_HVB = self.cluster[:, None, views["index"]].expand(logits_HVBK.shape[:-1])
        loss = F.cross_entropy(logits_HVBK.flatten(0, 2), target_HVB.flatten())
        for view, bank in enumerate(self.banks):
            bank.update(views["index"], z_VBP[view])
        with torch.no_grad():
            accuracy = (logits_HVBK.argmax(-1) == target_HVB).float().mean()
        used, std = usage(logits_HVBK[0, 0].detach().softmax(-1)), feature_std(z_VBP[:2].flatten(0, 1))
        return loss, {"cluster_accuracy": accuracy, "clusters_used": used, "std": std}
