r"""Contrastive random walk: walk over the patches of a video to a later frame and back, and arrive where you began.

Jabri, Owens, Efros, "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020, arXiv:2006.14613.

    A_t[i, j] = exp(q_i . q_j / tau) / sum_l exp(q_i . q_l / tau),   i of frame t, j of frame t + 1            (eq. 1)
    L = sum_k CE( A_0 ... A_{k-1}  A'_{k-1} ... A'_0, I )                                                (eq. 5-6)

A' are steps back, with a softmax of their own. Edges are closed at random, so that other ways are found (section 3.3).
Shapes: B clips, T frames, N nodes, D embedding. The mean over k, not the sum. What is kept embeds one patch, or a whole
frame as a map.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.correspondence import cycle_walk
from nolabel.views.video import PatchGraph


class RandomWalk(Method):
    temperature: float = 0.05
    """tau of eq. 1"""
    dropout: float = 0.1
    """probability that an edge is closed for one walk"""
    shortest: int = 1
    """steps out of the shortest walk that counts (2 in the authors' code)"""
    out: int = 128
    """D"""
    views: PatchGraph = PatchGraph(size=256, frames=4, patch=64, step=32)
    optim: Optim = Optim("adam", lr=1e-4, weight_decay=0.0, warmup_epochs=0, scaled=False, drops=(0.8, 0.92))

    def build(self, data, image):
        self.encoder = image
        self.projector = nn.Linear(image.dim, self.out)

    def forward(self, views, t):
        nodes = views["nodes"]
        B, T, N = nodes.shape[:3]
        pixels = nodes.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        node_BTND = self.projector(self.encoder(pixels)).unflatten(0, (B, T, N))
        dropped = None
        if self.dropout > 0:
            dropped = torch.rand(B, T - 1, 2, N, N, device=nodes.device) < self.dropout
        loss, accuracy = cycle_walk(node_BTND, self.temperature, dropped, self.shortest)
        unit_BTND = F.normalize(node_BTND.detach().float(), dim=-1)
        return loss, {"cycle_accuracy": accuracy, "likeness": unit_BTND.mean(2).square().sum(-1).mean()}
