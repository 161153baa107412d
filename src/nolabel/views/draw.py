"""The random parameters of image views, drawn in torch for a whole batch before any pixel is touched.

Drawing apart from rendering is what lets two executors give the same picture. What was not drawn is written as the
value that changes nothing (factor 1, shift 0, sigma 0), so an executor needs no further flags.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.constant import constant

if TYPE_CHECKING:
    from nolabel.views.image import OneView

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

Pair = tuple[float, float]
Jitter = tuple[float, float, float, float]

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
_COLUMNS = 2 * _ATTEMPTS + 13
_ORDERS = tuple(itertools.permutations(range(4)))


class Draws(NamedTuple):
    """One row for every view to be made; row n is about image n modulo the number of images."""

    box: Tensor
    """crop in pixels (N, 4) int32: top, left, height, width"""
    flip: Tensor
    """mirrored left to right (N,) bool"""
    order: Tensor
    """order of the colour operations (N, 4) int32: a permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE"""
    jitter: Tensor
    """factors of brightness, contrast, saturation, and shift of hue in turns (N, 4) float32; (1, 1, 1, 0) where none"""
    gray: Tensor
    """(N,) bool"""
    sigma: Tensor
    """standard deviation of the blur in pixels of the view (N,) float32, 0 where none"""
    solarize: Tensor
    """(N,) bool"""


def draw(
    views: Sequence["OneView"], count: int, height: int, width: int, rng: torch.Generator, device: torch.device
) -> Draws:
    """`count` independent draws for each view, for images of `height` x `width` pixels: N = len(views) * count rows.

    The distributions are those of torchvision's transforms. The views may differ in the probabilities of blur and
    solarisation; the rest is that of the first. Every number comes from one table of uniforms made where the generator
    lives, so a generator on the CPU gives the same views on every device.
    """
    view = views[0]
    u = torch.rand(_COLUMNS, len(views) * count, generator=rng, device=rng.device).to(device, non_blocking=True)
    area, aspect, u = u[:_ATTEMPTS], u[_ATTEMPTS : 2 * _ATTEMPTS], u[2 * _ATTEMPTS :]
    *strengths, turn = view.jitter
    turn = min(turn, 0.5)  # half a turn either way is every hue
    jittered = u[4] < view.jitter_p
    factors = [torch.where(jittered, _between(u[5 + i], max(0.0, 1 - s), 1 + s), 1.0) for i, s in enumerate(strengths)]
    return Draws(
        box=_crop_box(area, aspect, u[0], u[1], height, width, view.scale, view.ratio),
        flip=u[2] < view.flip,
        order=constant(_ORDERS, device, torch.int32).index_select(0, (u[3] * 24).long()),
        jitter=torch.stack((*factors, torch.where(jittered, _between(u[8], -turn, turn), 0.0)), 1),
        gray=u[9] < view.gray,
        sigma=torch.where(_happens(u[10], [v.blur for v in views]), _between(u[11], *view.blur_sigma), 0.0),
        solarize=_happens(u[12], [v.solarize for v in views]),
    )


def uncolored(draws: Draws) -> Draws:
    """The same crops and flips, and nothing else."""
    jitter = F.pad(torch.ones_like(draws.jitter[:, :3]), (0, 1))
    no, sigma = torch.zeros_like(draws.gray), torch.zeros_like(draws.sigma)
    return draws._replace(jitter=jitter, gray=no, sigma=sigma, solarize=no)


def channel_stats(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`mean` and `std` as they are, or their averages for every channel where there are more or fewer channels."""
    if len(mean) == channels:
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return u * (high - low) + low


def _happens(u: Tensor, probabilities: list[float]) -> Tensor:
    """u (N,) below its probability; one for each equal part of u. Part by part: copying them to a GPU would wait for it."""
    if len(set(probabilities)) == 1:
        return u < probabilities[0]
    return torch.cat([part < p for part, p in zip(u.chunk(len(probabilities)), probabilities)])


def _crop_box(
    area: Tensor, aspect: Tensor, down: Tensor, right: Tensor, height: int, width: int, scale: Pair, ratio: Pair
) -> Tensor:
    """torchvision's RandomResizedCrop.get_params: the first of 10 attempts that fits, else the largest centred crop.

    `area` and `aspect` (10, N), `down` and `right` (N,) are uniforms in [0, 1). Returns (N, 4) int32.
    """
    area = _between(area, *scale) * (height * width)
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** aspect
    w2, h2 = area * aspect, area / aspect
    good = (w2 < (width + 0.5) ** 2) & (h2 < (height + 0.5) ** 2) & (torch.minimum(w2, h2) > 0.25)  # once rounded
    attempts_left = (good * torch.arange(_ATTEMPTS, 0, -1, device=good.device)[:, None]).amax(0)
    fits, first = attempts_left > 0, (_ATTEMPTS - attempts_left).clamp(max=_ATTEMPTS - 1)[None]
    w2, h2 = w2.gather(0, first)[0], h2.gather(0, first)[0]
    # rsqrt, as above pow and amax: sqrt, exp and max start threads on a CPU, which then spin in the way of the views
    w, h = (w2 * w2.rsqrt()).round(), (h2 * h2.rsqrt()).round()
    all_w, all_h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    w, h = torch.where(fits, w, float(all_w)), torch.where(fits, h, float(all_h))
    top = torch.where(fits, down * (height - h + 1), float((height - all_h) // 2))
    left = torch.where(fits, right * (width - w + 1), float((width - all_w) // 2))
    return torch.stack((top, left, h, w), 1).int()  # int() rounds down: every whole offset is equally likely
