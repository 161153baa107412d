"""Views for pretext tasks on the arrangement of an image, and sets of permutations that are easy to tell apart.

Shapes: B images, C channels, K tiles, p their side in pixels, V copies.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nolabel.core.types import Batch
from nolabel.views.draw import Jitter, Pair
from nolabel.views.image import Executor, Interpolation, OneView, draws_of, execute, render
from nolabel.views.parts import standardised, tiles

Criterion = Literal["max_min", "max_mean"]


@dataclass(frozen=True)
class Tiles(OneView):
    """One tile of each cell of a grid over one crop, under `tiles`, row by row.

    A tile lies anywhere in its cell, so that there are gaps and no edge tells of a neighbour; each is standardised, so
    that neither light nor contrast does. Defaults as in Kolesnikov, Zhai, Beyer, CVPR 2019, for 292 px images.
    """

    size: int = 255
    scale: Pair = (0.6, 1.0)
    gray: float = 0.66
    grid: int = 3
    """cells a side"""
    tile: int = 64
    """side of a tile in pixels"""
    standardise: bool = True
    """each tile to mean 0 and deviation 1"""

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `tiles` float32 (B, grid^2, C, tile, tile)."""
        made = OneView.__call__(self, batch, rng, executor)
        x_BKCpp = tiles(made.pop("x"), self.grid, self.tile, rng)
        return {**made, "tiles": standardised(x_BKCpp) if self.standardise else x_BKCpp}

    def resized(self, size: int) -> "Tiles":
        """The view with `size` pixels a side, and tiles in proportion."""
        return replace(self, size=size, tile=self.tile * size // self.size)


@dataclass(frozen=True)
class AnyFilter(OneView):
    """One view a sample, under `x`, each resized by a filter drawn for it, bilinear or bicubic, whatever `interpolation` says.

    Then the traces of a filter do not tell whether an image was resized once more (Noroozi, Pirsiavash, Favaro, ICCV 2017).
    """

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `x` float32 (B, C, size, size), channels last in memory."""
        image = batch["image"]
        drawn = draws_of(image, [self], rng)
        ways: tuple[Interpolation, ...] = "bilinear", "bicubic"
        one, other = (execute(image, [replace(self, interpolation=way)], drawn, executor) for way in ways)
        first = torch.rand(len(one), 1, 1, 1, generator=rng, device=rng.device).to(one.device, non_blocking=True) < 0.5
        return {**{k: v for k, v in batch.items() if k != "image"}, "x": torch.where(first, one, other)}


@dataclass(frozen=True)
class Copies(OneView):
    """Several views of each image by the same rule, under `copies`."""

    scale: Pair = (0.08, 1.0)
    jitter: Jitter = (0.4, 0.4, 0.4, 0.2)
    gray: float = 0.66
    count: int = 8
    """V"""

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `copies` float32 (V, B, C, size, size)."""
        made = {key: value for key, value in batch.items() if key != "image"}
        return {**made, "copies": render(batch["image"], [self] * self.count, rng, executor)}


@cache
def permutations(parts: int, count: int, criterion: Criterion = "max_min", seed: int = 0) -> np.ndarray:
    """`count` permutations of `parts` things (count, parts), far from each other in Hamming distance.

    Greedy: after a random first one, always the candidate with the largest mean (Noroozi, Favaro, ECCV 2016) or the
    largest smallest distance to those chosen; of equals one by chance. For 9 tiles the mean gives sets no better
    separated than random ones (smallest distance 2), the minimum gives 6 for 100 and 5 for 1,000. Candidates are all
    permutations of up to 9 things, 200,000 random ones of more.
    """
    rng = np.random.default_rng(seed)
    if parts <= 9:
        every = np.array(list(itertools.permutations(range(parts))), np.uint8)
    else:
        every = rng.permuted(np.tile(np.arange(parts, dtype=np.uint8), (200_000, 1)), axis=1)
    if count > len(every):
        raise ValueError(f"there are only {len(every)} permutations of {parts} things, not {count}")
    rng.shuffle(every)  # of equals the first is one by chance
    place_KM = np.ascontiguousarray(every.T)
    score_M = np.full(len(every), parts, np.uint32) if criterion == "max_min" else np.zeros(len(every), np.uint32)
    free_M, chosen = np.ones(len(every), bool), [0]
    while True:
        free_M[chosen[-1]] = False
        if len(chosen) == count:
            return every[chosen].astype(np.int64)
        distance_M = np.zeros(len(every), np.uint32)
        for row_M, value in zip(place_KM, every[chosen[-1]]):
            distance_M += row_M != value
        score_M = np.minimum(score_M, distance_M) if criterion == "max_min" else score_M + distance_M
        chosen.append(int(np.argmax(np.where(free_M, score_M + 1, 0))))


def permutation_table(parts: int, count: int, criterion: Criterion = "max_min", seed: int = 0) -> Tensor:
    """`permutations` as int64 on the CPU (count, parts)."""
    return torch.from_numpy(permutations(parts, count, criterion, seed).copy())
