"""Weak and strong views of semi-supervised learning: shift and flip; RandAugment and Cutout on top of them.

Weak is a random shift by up to an eighth of the side with reflected borders, and a flip. Strong is weak, then some of
the operations of RandAugment (Cubuk, Zoph, Shlens, Le, NeurIPS 2020, arXiv:1909.13719) at random magnitudes, then one
square cut out (DeVries, Taylor, 2017, arXiv:1708.04552). In each round a random permutation deals the operations out to
the samples of a batch, as equally as 14 divides it: so an operation costs its share of the batch and no more, and sizes
are known without waiting for the device. Geometry is bilinear and fills with grey, as Cutout does.

Shapes: B samples, C channels, H x W pixels. Pixels are float in [0, 1] until they are normalised at the end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.constant import constant
from nolabel.core.types import Batch
from nolabel.views.draw import channel_stats
from nolabel.views.image import IMAGENET_MEAN, IMAGENET_STD, plain

GREY = 0.5
LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Weak:
    """One weak view a sample, under the key `x`."""

    reads: ClassVar[tuple[str, ...]] = ("image",)
    size: int = 32
    """side of the view in pixels"""
    shift: float = 0.125
    """largest shift as a part of the side"""
    flip: bool = True
    """mirror half of the samples left to right"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C) -> `x` float32 (B, C, size, size)."""
        x = self.plain(batch)["image"]
        return {**_others(batch), "x": shift_and_flip(x, self.shift, rng, self.flip)}

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, size, size), see `views.plain`."""
        return {"image": plain(batch["image"], self.size, self.mean, self.std)}


@dataclass(frozen=True)
class TwoWeak(Weak):
    """Two weak views a sample, under `a` and `b`."""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C) -> `a`, `b` float32 (B, C, size, size)."""
        x = self.plain(batch)["image"]
        a, b = (shift_and_flip(x, self.shift, rng, self.flip) for _ in range(2))
        return {**_others(batch), "a": a, "b": b}


@dataclass(frozen=True)
class WeakStrong(Weak):
    """A weak and a strong view a sample, under `weak` and `strong`."""

    operations: int = 3
    """rounds of RandAugment"""
    cutout: float = 0.5
    """largest side of the square that is cut out, as a part of the side; 0 for none"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C) -> `weak`, `strong` float32 (B, C, size, size)."""
        unit = plain(batch["image"], self.size, (0.0,), (1.0,))
        weak, strong = (shift_and_flip(unit, self.shift, rng, self.flip) for _ in range(2))
        for _ in range(self.operations):
            strong = rand_augment_round(strong, rng)
        if self.cutout > 0:
            strong = cut_out(strong, self.cutout, rng)
        return {
            **_others(batch),
            "weak": normalised(weak, self.mean, self.std),
            "strong": normalised(strong, self.mean, self.std),
        }


def shift_and_flip(x_BCHW: Tensor, shift: float, rng: torch.Generator, flip: bool = True) -> Tensor:
    """Move each image by up to `shift` of its side, reflected at the border, and mirror half of them; 0 moves none."""
    b, _, height, width = x_BCHW.shape
    pad = max(1, round(shift * min(height, width))) if shift > 0 else 0
    x_BCHW = F.pad(x_BCHW, (pad, pad, pad, pad), mode="reflect")
    top_B11, left_B11 = torch.randint(2 * pad + 1, (2, b, 1, 1), generator=rng, device=x_BCHW.device)
    flip_B11 = torch.rand(b, 1, 1, generator=rng, device=x_BCHW.device) < (0.5 if flip else 0.0)
    y_H, x_W = (torch.arange(n, device=x_BCHW.device) for n in (height, width))
    rows_BH1 = top_B11 + y_H[:, None]
    columns_B1W = left_B11 + torch.where(flip_B11, x_W.flip(0), x_W)
    sample_B11 = torch.arange(b, device=x_BCHW.device)[:, None, None]
    moved_BHWC = x_BCHW.permute(0, 2, 3, 1)[sample_B11, rows_BH1, columns_B1W]
    return moved_BHWC.permute(0, 3, 1, 2)  # channels last in memory


def rand_augment_round(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """One operation of RandAugment on each sample, in place: which one, and how much of it, is drawn for each."""
    u_B = torch.rand(len(x_BCHW), generator=rng, device=x_BCHW.device)
    order_B = torch.rand(len(x_BCHW), generator=rng, device=x_BCHW.device).argsort()
    for operation, rows in zip(OPERATIONS, order_B.tensor_split(len(OPERATIONS))):
        if len(rows) and operation is not None:
            x_BCHW[rows] = operation(x_BCHW[rows], u_B[rows].view(-1, 1, 1, 1))
    return x_BCHW


def cut_out(x_BCHW: Tensor, largest: float, rng: torch.Generator) -> Tensor:
    """Grey out one square a sample, of up to `largest` of the side, around any pixel."""
    b, _, height, width = x_BCHW.shape
    size_B, y_B, x_B = torch.rand(3, b, 1, 1, 1, generator=rng, device=x_BCHW.device)
    half_B = size_B * largest * min(height, width) / 2
    rows = (torch.arange(height, device=x_BCHW.device)[:, None] + 0.5 - y_B * height).abs() < half_B
    columns = (torch.arange(width, device=x_BCHW.device) + 0.5 - x_B * width).abs() < half_B
    return x_BCHW.masked_fill(rows & columns, GREY)


# ---- operations: pixels (N, C, H, W) in [0, 1] and a uniform number in [0, 1) for each sample -> pixels


def _blend(x: Tensor, other: Tensor, u: Tensor) -> Tensor:
    """Between `other` and x, nearer to x for larger u."""
    return torch.lerp(other, x, 0.05 + 0.9 * u).clamp(0, 1)


def luma(x: Tensor) -> Tensor:
    """Pixels (N, C, H, W) in grey (N, 1, H, W): of RGB as `views.image` has it, else the mean channel."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    r, g, b = (w * x[:, i : i + 1] for i, w in enumerate(LUMA))
    return r + g + b


def _sharpness(x: Tensor, u: Tensor) -> Tensor:
    kernel = torch.full((3, 3), 1 / 13, device=x.device)
    kernel[1, 1] = 5 / 13
    inner = F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = inner
    return _blend(x, smooth, u)


def _autocontrast(x: Tensor, u: Tensor) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def _equalize(x: Tensor, u: Tensor) -> Tensor:
    level = (x * 255).round().long().flatten(2)
    count = torch.zeros(*level.shape[:2], 256, device=x.device)
    count.scatter_add_(2, level, torch.ones_like(level, dtype=count.dtype))
    last = count.gather(2, level.amax(2, keepdim=True))
    step = ((level.shape[2] - last) / 255).floor()  # whole numbers, as Pillow and AutoAugment count
    table = ((count.cumsum(2) - count + (step / 2).floor()) / step.clamp(min=1)).floor().clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return table.gather(2, level).view_as(x) / 255


def _posterize(x: Tensor, u: Tensor) -> Tensor:
    step = 2.0 ** (4 - (u * 5).floor())  # keep 4 to 8 of 8 bits
    return ((x * 255).round() / step).floor() * step / 255


def _affine(x: Tensor, matrix: list[list[Tensor]]) -> Tensor:
    rows = [torch.stack(row, -1) for row in matrix]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x - GREY, grid, "bilinear", "zeros", align_corners=False) + GREY


def _geometry(kind: str, most: float) -> Callable[[Tensor, Tensor], Tensor]:
    def change(x: Tensor, u: Tensor) -> Tensor:
        v = ((2 * u - 1) * most).flatten()
        one, zero = torch.ones_like(v), torch.zeros_like(v)
        match kind:
            case "rotate":
                return _affine(x, [[v.cos(), -v.sin(), zero], [v.sin(), v.cos(), zero]])
            case "shear_x":
                return _affine(x, [[one, v, zero], [zero, one, zero]])
            case "shear_y":
                return _affine(x, [[one, zero, zero], [v, one, zero]])
            case "translate_x":
                return _affine(x, [[one, zero, 2 * v], [zero, one, zero]])
            case _:
                return _affine(x, [[one, zero, zero], [zero, one, 2 * v]])

    return change


OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor] | None, ...] = (
    None,  # identity
    _autocontrast,
    lambda x, u: _blend(x, torch.zeros_like(x), u),  # brightness
    lambda x, u: _blend(x, luma(x).expand_as(x), u),  # colour
    lambda x, u: _blend(x, luma(x).mean((2, 3), keepdim=True).expand_as(x), u),  # contrast
    _equalize,
    _posterize,
    _geometry("rotate", math.radians(30)),
    _sharpness,
    _geometry("shear_x", 0.3),
    _geometry("shear_y", 0.3),
    lambda x, u: torch.where(x >= u, 1 - x, x),  # solarize
    _geometry("translate_x", 0.3),
    _geometry("translate_y", 0.3),
)
"""the operations of FixMatch (Sohn et al. 2020, table 12)"""


def normalised(x_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels in [0, 1] by mean and deviation of each channel, channels last in memory."""
    mean, std = channel_stats(mean, std, x_BCHW.shape[1])
    mean_C11, std_C11 = (constant(values, x_BCHW.device).view(-1, 1, 1) for values in (mean, std))
    x_BCHW = (x_BCHW - mean_C11) / std_C11
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def _others(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key != "image"}
