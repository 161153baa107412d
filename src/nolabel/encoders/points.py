"""Encoders of point clouds (B, P, 3), by name.

Shapes: B clouds, P points, k neighbours, L groups of K points, D width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.networks.mlp import mlp
from nolabel.networks.points import farthest, highest, nearest, pick
from nolabel.networks.transformer import Transformer


class EdgeConv(nn.Module):
    """max over neighbours j of W [x_i, x_j - x_i], then norm and ReLU (DGCNN, Wang et al., TOG 2019, eq. 7-8).

    W is split into a part for i and one for j, so that no edge is ever multiplied: the maximum of sums is a sum with a
    maximum. LayerNorm instead of BatchNorm: clouds stay apart.
    """

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.own = nn.Linear(width_in, width)
        self.other = nn.Linear(width_in, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BPC: Tensor, near_BPk: Tensor) -> Tensor:
        return F.relu(self.norm(self.own(x_BPC) + highest(self.other(x_BPC), near_BPk)))


class TinyPoints(nn.Module):
    """Two edge convolutions on the graph of nearest points: clouds (B, P, 3) -> (B, D), any P from `neighbours` on.

    The graph is that of the coordinates, with half of the neighbours in the second layer. A point's features are those
    of both layers together with their maximum over the cloud, so each point knows the whole.
    """

    def __init__(self, shape: tuple[int, ...], neighbours: int = 16, width: int = 64, dim: int = 128):
        super().__init__()
        if shape[0] < neighbours:
            raise UserError(f"the encoder tiny_points needs clouds of at least {neighbours} points, not {shape[0]}")
        self.neighbours, self.dim = neighbours, dim
        self.first, self.second = EdgeConv(3, width), EdgeConv(width, 2 * width)
        self.local = nn.Linear(3 * width, dim)
        self.whole = nn.Linear(dim, dim)
        self.mix = mlp(dim, 2 * dim, dim, norm="ln")
        self.norm = nn.LayerNorm(dim)

    def points(self, x: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> features of each point (B, P, D)."""
        near_BPk = nearest(x, x, self.neighbours)
        fine_BPC = self.first(x, near_BPk)
        coarse_BPC = self.second(fine_BPC, near_BPk[..., : self.neighbours // 2])
        local_BPD = self.local(torch.cat((fine_BPC, coarse_BPC), -1))
        h_BPD = local_BPD + self.whole(F.relu(local_BPD.amax(1, keepdim=True)))
        return self.norm(h_BPD + self.mix(F.relu(h_BPD)))

    def forward(self, x: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> features (B, D), the maximum over the points."""
        return self.points(x).amax(1)


class PointGroups(nn.Module):
    """A transformer of groups of neighbouring points (Point-BERT, Yu et al., CVPR 2022; Point-MAE, Pang et al. 2022).

    A TokenEncoder: L centres far from each other, each with its K nearest points in coordinates relative to it, which
    a small PointNet makes one token of. Its position is a function of the centre. Without a class token the summary
    is the mean of the tokens plus their maximum.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        groups: int | None = None,
        members: int | None = None,
        dim: int = 96,
        depth: int = 4,
        heads: int = 3,
    ):
        super().__init__()
        self.length = groups or max(4, shape[0] // 16)
        self.members = members or min(32, shape[0] // 16)
        if not 1 <= self.members <= shape[0] >= self.length:
            raise UserError(
                f"{self.length} groups of {self.members} points need larger clouds than of {shape[0]} points"
            )
        self.grid, self.patch_dim, self.dim = (self.length,), 3 * self.members, dim
        # groups are about sqrt(K / P) wide; in such units coordinates are not small beside the biases of the first layer
        self.scale = (shape[0] / self.members) ** 0.5
        self.point = mlp(3, dim, dim, norm="ln")
        self.whole = mlp(2 * dim, 2 * dim, dim, norm="ln")
        self.position = mlp(3, dim, dim, norm=None, act=nn.GELU)
        self.transformer = Transformer(dim, depth, heads)

    def group(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Clouds (B, P, 3) -> centres (B, L, 3) and members relative to them (B, L, K, 3), nearest first."""
        centre_BL3 = pick(x, farthest(x, self.length))
        member_BLK3 = pick(x, nearest(centre_BL3, x, self.members))
        return centre_BL3, member_BLK3 - centre_BL3[:, :, None]

    def embed_groups(self, centre_BL3: Tensor, member_BLK3: Tensor) -> Tensor:
        """Groups -> tokens with positions (B, L, D); a token knows nothing of the other groups."""
        h_BLKD = self.point(self.scale * member_BLK3)
        whole_BLKD = h_BLKD.amax(2, keepdim=True).expand_as(h_BLKD)
        tokens_BLD = self.whole(torch.cat((h_BLKD, whole_BLKD), -1)).amax(2)
        return tokens_BLD + self.position(centre_BL3)

    def patchify(self, x: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> relative coordinates of each group's points, one after the other (B, L, 3 K)."""
        return self.group(x)[1].flatten(2)

    def unpatchify(self, patches: Tensor, centre_BL3: Tensor) -> Tensor:
        """(B, L, 3 K) and the centres that relative coordinates have lost -> points (B, L K, 3); groups overlap."""
        return (patches.unflatten(2, (-1, 3)) + centre_BL3[:, :, None]).flatten(1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> tokens with positions (B, L, D)."""
        return self.embed_groups(*self.group(x))

    def encode(self, tokens: Tensor) -> Tensor:
        """Any subset of tokens (B, K, D) -> (B, 1 + K, D), the summary first, final norm applied."""
        h_BKD = self.transformer(tokens)
        return torch.cat((h_BKD.mean(1, keepdim=True) + h_BKD.amax(1, keepdim=True), h_BKD), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Clouds (B, P, 3) -> features (B, D), the summary."""
        return self.encode(self.embed(x))[:, 0]


OURS: dict[str, Callable[..., nn.Module]] = {"tiny_points": TinyPoints, "tiny_point_groups": PointGroups}
"""from a name to what makes the encoder, from the shape of one input and options"""
