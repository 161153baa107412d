r"""Point-MAE: hide most groups of neighbouring points and put their points back where they were.

Pang, Wang, Tay, Liu, Tian, Yuan, "Masked Autoencoders for Point Cloud Self-supervised Learning", ECCV 2022,
arXiv:2203.06604.

    L = mean over hidden groups of  mean_a min_b |a - b|^2 + mean_b min_a |a - b|^2                             (eq. 4)

between predicted points a and true points b, both relative to the group's centre. The encoder sees nothing of hidden
groups; the decoder is told their centres.
Shapes: B clouds, L groups of K points, M of them hidden, D features, W width of the decoder. Differs from the paper:
positions are added once, before the first block, not before every one; no stochastic depth.
"""

from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.points import chamfer
from nolabel.networks.decoder import Decoder
from nolabel.networks.mlp import mlp
from nolabel.views.masks import random_mask, take
from nolabel.views.points import OneCloud


class PointMAE(Method):
    hide: float = 0.6
    """share of the groups that is hidden"""
    width: int = 384
    """W"""
    depth: int = 4
    """of the decoder"""
    heads: int = 6
    """of the decoder"""
    views: OneCloud = OneCloud(points=1024)
    optim: Optim = Optim("adamw", lr=1e-3, weight_decay=0.05, scaled=False, warmup_epochs=10)

    def build(self, data, tokens):
        self.encoder = tokens
        self.decoder = Decoder(tokens.dim, self.width, self.depth, self.heads, None, tokens.patch_dim)
        self.position = mlp(3, 128, self.width, norm=None, act=nn.GELU)

    def forward(self, views, t):
        centre_BL3, member_BLK3 = self.encoder.group(views["x"])
        tokens_BLD = self.encoder.embed_groups(centre_BL3, member_BLK3)
        keep_BK, hide_BM = random_mask(*tokens_BLD.shape[:2], self.hide, device=tokens_BLD.device)
        h_BTD = self.encoder.encode(take(tokens_BLD, keep_BK))
        guess_BMP = self.decoder(h_BTD, keep_BK, hide_BM, self.position(centre_BL3)) / self.encoder.scale
        true_BMK3 = take(member_BLK3, hide_BM)
        return chamfer(guess_BMP.unflatten(-1, (-1, 3)).flatten(0, 1), true_BMK3.flatten(0, 1)), {}
