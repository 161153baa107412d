r"""Counting: what there is in an image is what there is in its four quarters together, and not what another one has.

Noroozi, Pirsiavash, Favaro, "Representation Learning by Learning to Count", ICCV 2017, arXiv:1708.06734.

    l(x, y) = | phi(D x) - sum_j phi(T_j x) |^2  +  max( 0, M - | phi(D y) - sum_j phi(T_j x) |^2 )             (eq. 5-6)

Shapes: B images, K counts, D halves an image's side, T_j is its j-th quarter. Counts are not negative. The way in which an
image is resized is drawn for each, and drawn again to make it smaller, lest its traces tell the two kinds of input apart.
Differs: y runs through all other images of all ranks instead of being one of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import gather, rank
from nolabel.views.tiles import AnyFilter


class Counting(Method):
    margin: float = 10.0
    """M"""
    counts: int = 1000
    """K"""
    views: AnyFilter = AnyFilter(size=228, scale=(0.5, 1.0), gray=0.33)
    optim: Optim = Optim("adam", lr=1e-4, weight_decay=5e-4, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = image
        self.count = nn.Sequential(nn.Linear(image.dim, self.counts), nn.ReLU())

    def forward(self, views, t):
        whole, quarters = smaller(views["x"]), quarters_of(views["x"])
        B = len(whole)
        phi = self.count(self.encoder(torch.cat((whole, quarters.flatten(0, 1))))).float()
        whole_BK, sum_BK = phi[:B], phi[B:].unflatten(0, (4, B)).sum(0)
        same_B = (whole_BK - sum_BK).square().sum(1)
        all_NK = gather(whole_BK)
        square_BN = sum_BK.square().sum(1)[:, None] + all_NK.square().sum(1) - 2 * sum_BK @ all_NK.T
        other_BN = (
            torch.arange(len(all_NK), device=phi.device) != (torch.arange(B, device=phi.device) + rank() * B)[:, None]
        )
        gap_BN = F.relu(self.margin - square_BN.clamp(min=0)) * other_BN
        contrast = gap_BN.sum(1).mean() / max(1, len(all_NK) - 1)
        logs = {
            "same": same_B.detach().mean(),
            "contrast": contrast.detach(),
            "count": whole_BK.detach().sum(1).mean(),
            "dead": (phi.detach().amax(0) <= 0).float().mean(),
        }
        return same_B.mean() + contrast, logs


def quarters_of(x):
    """(B, C, S, S) -> (4, B, C, S / 2, S / 2), row by row."""
    half = x.shape[-1] // 2
    return torch.stack([x[..., i : i + half, j : j + half] for i in (0, half) for j in (0, half)])


def smaller(x):
    """(B, C, S, S) -> (B, C, S / 2, S / 2), each image by one of three filters."""
    half = x.shape[-1] // 2
    cut = x[..., : 2 * half, : 2 * half].float()
    ways = [
        F.avg_pool2d(cut, 2),
        F.interpolate(cut, (half, half), mode="bilinear", antialias=True),
        F.interpolate(cut, (half, half), mode="bicubic", antialias=True),
    ]
    which_B = torch.rand(len(x), device=x.device).view(-1, 1, 1, 1) * 3
    return torch.where(which_B < 1, ways[0], torch.where(which_B < 2, ways[1], ways[2])).to(x.dtype)
