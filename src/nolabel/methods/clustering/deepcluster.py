r"""DeepCluster: cluster all features by k-means, learn the clusters as if they were classes, and start again.

Caron, Bojanowski, Joulin, Douze, "Deep Clustering for Unsupervised Learning of Visual Features", ECCV 2018,
arXiv:1807.05520.

    min_C 1/N sum_n min_y |f(x_n) - C y|^2   over features that are whitened and of unit length              (eq. 2)
    L = mean_n w_n CE( g(f(x_n)), y_n ),   w_n = N / (clusters in use * size of y_n's)        (eq. 1, section 3.3)

Shapes: B images of N, D features, K clusters. Every epoch, or every few, the clusters are found anew from plain views and
the classifier g starts anew. f sees edges, for clusters of colours are easy to find. Differs: the weight w_n stands for
drawing clusters uniformly, which the paper calls equivalent; one optimiser serves all, so that the momentum of g outlives
it; a net with wide layers of its own (`hidden` 0) is clustered behind its last ReLU.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.encoders.wrapped import Edges
from nolabel.losses.cluster import kmeans, nmi, pca_whitening
from nolabel.networks.mlp import fully_connected
from nolabel.views.image import OneView


class DeepCluster(Method):
    clusters: int = 10000
    """K, about ten times what one would want to tell apart"""
    reassign: int = 1
    """epochs between two clusterings"""
    iterations: int = 20
    """rounds of k-means"""
    pca: int = 256
    """dimensions that whitening keeps"""
    hidden: int = 4096
    """width of the two layers between encoder and classifier, as AlexNet and VGG have them; 0 leaves them out"""
    dropout: float = 0.5
    """in front of each of these layers"""
    sobel: bool = True
    """edges of gray images in place of colours"""
    views: OneView = OneView(size=224, scale=(0.08, 1.0))
    optim: Optim = Optim("sgd", lr=0.05, weight_decay=1e-5, scaled=False, warmup_epochs=0, drops=(1.0,))

    def build(self, data, image):
        self.encoder = Edges(image) if self.sobel else image
        self.head = fully_connected(image.dim, self.hidden, self.dropout)
        self.classifier = nn.Linear(self.hidden or image.dim, self.clusters)
        self.register_buffer("cluster", torch.zeros(data.size, dtype=torch.long))
        self.register_buffer("weight", torch.ones(self.clusters))
        self.register_buffer("unchanged", torch.zeros(()))

    def begin_epoch(self, t, data):
        if round(t.epoch) % self.reassign:
            return
        count = len(self.cluster)
        f_MD = data.encode(nn.Sequential(self.encoder, self.head))[own_rows(count)]
        mean_D, matrix_DP = pca_whitening(f_MD, self.pca)
        _, cluster_M = kmeans(F.normalize((f_MD - mean_D) @ matrix_DP, dim=1), self.clusters, self.iterations)
        cluster_N = join_rows(cluster_M, count)
        size_K = cluster_N.bincount(minlength=self.clusters)
        self.weight.copy_(count / ((size_K > 0).sum() * size_K.clamp_min(1)))
        self.unchanged.copy_(nmi(cluster_N, self.cluster))
        self.cluster.copy_(cluster_N)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, views, t):
        logits_BK = self.classifier(F.relu(self.head(self.encoder(views["x"])))).float()
        target_B = self.cluster[views["index"]]
        loss = (self.weight[target_B] * F.cross_entropy(logits_BK, target_B, reduction="none")).mean()
        accuracy = (logits_BK.argmax(1) == target_B).float().mean()
        return loss, {"cluster_accuracy": accuracy, "nmi_with_last": self.unchanged.clone()}
