"""Views of point clouds: crop and drop of cuboids, subset, rotation, scale, flip, jitter, centring.

The order is crop -> drop -> subset -> rotate -> scale -> flip -> jitter -> centre -> shift. Each step has one draw for
each sample and view. Centring after the crop hides where in the cloud the crop was. A crop with fewer points than the view
takes some of its own again, never one from outside.

Shapes: B clouds, P stored points, N points of a view.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.types import Batch
from nolabel.views.draw import Pair

Turn = Literal["none", "up", "any"]
"""rotations: none, about the upright axis, or any"""


@dataclass(frozen=True)
class OneCloud:
    """One view a sample, under `x`. The defaults are Point-MAE's (Pang et al. 2022): stretch and shift."""

    reads: ClassVar[tuple[str, ...]] = ("points",)
    points: int = 1024
    """N, of a view; as many as are stored where those are fewer"""
    crop: Pair = (1.0, 1.0)
    """range of the share of points kept: those in a cuboid about a random point"""
    drop: float = 0.0
    """share of points lost: those in a cuboid about another random point"""
    aspect: float = 0.75
    """smallest ratio of the sides of a cuboid, as shares of the extent of the cloud"""
    turn: Turn = "none"
    up: int = 2
    """the upright axis: 0, 1 or 2"""
    scale: Pair = (2 / 3, 3 / 2)
    """range of the factor of size"""
    stretch: bool = True
    """a factor of its own for each axis"""
    flip: float = 0.0
    """probability of mirroring, for each of the two level axes"""
    jitter: float = 0.0
    """standard deviation of the noise on coordinates, cut off at four of them"""
    shift: float = 0.2
    """largest shift along each axis"""

    @property
    def stored(self) -> int:
        """Stored points that it wants of a sample, so that the smallest crop has enough; at most 50,000."""
        return min(50_000, math.ceil(self.points / self.crop[0]))

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`points` float32 (B, P, 3) -> `x` (B, N, 3)."""
        x_BP3 = batch["points"]
        index_BN = inside(self.rank(x_BP3, rng), self.points)
        return {**_others(batch), "x": self.move(_pick(x_BP3, index_BN), rng)}

    def plain(self, batch: Batch) -> Batch:
        """`points` float32 (B, P, 3) -> `points` (B, N, 3), evenly spaced rows of each cloud, centred."""
        x_BP3 = batch["points"]
        count = min(self.points, x_BP3.shape[1])
        rows_N = torch.arange(count, device=x_BP3.device) * x_BP3.shape[1] // count
        return {"points": _centred(x_BP3[:, rows_N])}

    def rank(self, x_BP3: Tensor, rng: torch.Generator) -> Tensor:
        """A random number for each point (B, P), lowest for those to take first: below 1 inside the crop, else above."""
        u_BP = _uniform(x_BP3.shape[:2], rng, x_BP3)
        if self.crop != (1.0, 1.0):
            low, high = self.crop
            u_BP = u_BP + ~self._cuboid(x_BP3, low + (high - low) * _uniform((len(x_BP3), 1), rng, x_BP3), rng)
        if self.drop:
            u_BP = u_BP + 2.0 * self._cuboid(x_BP3, self.drop, rng)
        return u_BP

    def move(self, x_BN3: Tensor, rng: torch.Generator) -> Tensor:
        """Turn, scale, flip, jitter, centre and shift clouds (B, N, 3)."""
        B = len(x_BN3)
        if self.turn != "none":
            x_BN3 = x_BN3 @ rotations(B, None if self.turn == "any" else self.up, rng).to(x_BN3)
        low, high = self.scale
        x_BN3 = x_BN3 * (low + (high - low) * _uniform((B, 1, 3 if self.stretch else 1), rng, x_BN3))
        if self.flip:
            level_3 = torch.arange(3, device=x_BN3.device) != self.up
            mirrored_B13 = (_uniform((B, 1, 3), rng, x_BN3) < self.flip) & level_3
            x_BN3 = torch.where(mirrored_B13, -x_BN3, x_BN3)
        if self.jitter:
            noise = torch.randn(x_BN3.shape, generator=rng, device=rng.device).to(x_BN3, non_blocking=True)
            x_BN3 = x_BN3 + self.jitter * noise.clamp(-4, 4)
        return _centred(x_BN3) + self.shift * (2 * _uniform((B, 1, 3), rng, x_BN3) - 1)

    def _cuboid(self, x_BP3: Tensor, share: Tensor | float, rng: torch.Generator) -> Tensor:
        """Whether each point (B, P) is among the `share` of points in a cuboid about one of them."""
        B, P = x_BP3.shape[:2]
        centre_B1 = (_uniform((B, 1), rng, x_BP3) * P).long()
        side_B13 = self.aspect + (1 - self.aspect) * _uniform((B, 1, 3), rng, x_BP3)
        side_B13 = side_B13 * (x_BP3.amax(1, keepdim=True) - x_BP3.amin(1, keepdim=True)).clamp(min=1e-6)
        away_BP = ((x_BP3 - _pick(x_BP3, centre_B1)).abs() / side_B13).amax(2)
        return away_BP.argsort(1).argsort(1) < share * P


@dataclass(frozen=True)
class TwoClouds(OneCloud):
    """Two views a sample, under `a` and `b`. The defaults are PointContrast's (Xie et al. 2020).

    The first `pairs` points of `a` are those of `b`, moved: points that both crops hold, where there are enough.
    """

    points: int = 2048
    crop: Pair = (0.6, 1.0)
    turn: Turn = "any"
    scale: Pair = (0.8, 1.2)
    stretch: bool = False
    shift: float = 0.0
    pairs: int = 128
    """points that are in both views"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`points` float32 (B, P, 3) -> `a`, `b` (B, N, 3)."""
        x_BP3 = batch["points"]
        rank_a_BP, rank_b_BP = self.rank(x_BP3, rng), self.rank(x_BP3, rng)
        shared_BM = first(rank_a_BP + rank_b_BP.floor(), min(self.pairs, self.points))
        views = {}
        foremost_M = torch.arange(-shared_BM.shape[1], 0, device=x_BP3.device, dtype=rank_a_BP.dtype)
        for name, rank_BP in (("a", rank_a_BP), ("b", rank_b_BP)):
            rank_BP = rank_BP.scatter(1, shared_BM, foremost_M.expand_as(shared_BM))
            views[name] = self.move(_pick(x_BP3, inside(rank_BP, self.points)), rng)
        return {**_others(batch), **views}


def rotations(count: int, up: int | None, rng: torch.Generator) -> Tensor:
    """Proper rotation matrices (count, 3, 3): about axis `up` by a uniform angle, or uniform over all with None."""
    if up is None:  # a uniform unit quaternion
        w, x, y, z = F.normalize(torch.randn(count, 4, generator=rng, device=rng.device), dim=1).unbind(1)
    else:
        half = math.pi * torch.rand(count, generator=rng, device=rng.device)
        w, (x, y, z) = half.cos(), (half.sin() * (axis == up) for axis in range(3))
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def first(rank_BP: Tensor, count: int) -> Tensor:
    """Numbers of the `count` points of lowest rank (B, count), all of them where there are fewer."""
    return rank_BP.argsort(1)[:, :count]


def inside(rank_BP: Tensor, count: int) -> Tensor:
    """Numbers of `count` points, or of P if that is less (B, N): those of a rank below 1, lowest first, and again from the
    first on where they are too few.
    """
    order_BP, own_B1 = rank_BP.argsort(1), (rank_BP < 1).sum(1, keepdim=True).clamp(min=1)
    return order_BP.gather(1, torch.arange(min(count, rank_BP.shape[1]), device=rank_BP.device) % own_B1)


def _centred(x_BN3: Tensor) -> Tensor:
    return x_BN3 - x_BN3.mean(1, keepdim=True)


def _pick(x_BP3: Tensor, index_BN: Tensor) -> Tensor:
    return x_BP3.take_along_dim(index_BN[..., None], 1)


def _uniform(shape: tuple[int, ...], rng: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device).to(like.device, non_blocking=True)


def _others(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key != "points"}
