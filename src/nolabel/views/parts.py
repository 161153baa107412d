"""Views of an image's parts: tiles of a puzzle, overlapping patches, each with colours of its own.

Shapes: B images, C channels, S side of the view, K parts, h x w grid of patches, p their side in pixels.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from nolabel.core.types import Batch
from nolabel.views.draw import Jitter, Pair
from nolabel.views.image import Executor, OneView, TwoViews, plain, render, to_uint8
from nolabel.views.weak import luma, normalised, rand_augment_round

Transform = Literal["jigsaw", "rotation"]
PIXELS: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
"""fields of a view that leave its pixels in [0, 1]"""


def _uniform(rng: torch.Generator, device: torch.device, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=rng, device=rng.device).to(device, non_blocking=True)


def overlapping(x_BCHW: Tensor, patch: int, stride: int) -> Tensor:
    """All patches on a grid of step `stride` -> (B, h, w, C, patch, patch); what is left at the far borders is cut."""
    return x_BCHW.unfold(2, patch, stride).unfold(3, patch, stride).permute(0, 2, 3, 1, 4, 5)


def tiles(x_BCHW: Tensor, grid: int, side: int, rng: torch.Generator) -> Tensor:
    """A random square of `side` pixels from each of `grid` x `grid` cells -> (B, grid^2, C, side, side), row by row.

    Cells are as large as fit; what they leave over lies at the right and lower borders.
    """
    cell = min(x_BCHW.shape[2:]) // grid
    if side > cell:
        raise ValueError(f"tiles of {side} pixels do not fit into cells of {cell}")
    b, device = len(x_BCHW), x_BCHW.device
    start = (_uniform(rng, device, 2, b, grid * grid) * (cell - side + 1)).long()
    place, pixel = torch.arange(grid * grid, device=device), torch.arange(side, device=device)
    row_BKs = (start[0] + place // grid * cell)[..., None] + pixel
    column_BKs = (start[1] + place % grid * cell)[..., None] + pixel
    image_B = torch.arange(b, device=device).view(-1, 1, 1, 1)
    return x_BCHW.permute(0, 2, 3, 1)[image_B, row_BKs[..., None], column_BKs[:, :, None]].permute(0, 1, 4, 2, 3)


def middle_tiles(x_BCHW: Tensor, grid: int, side: int) -> Tensor:
    """`tiles` without chance: the square in the middle of each cell."""
    cell = min(x_BCHW.shape[2:]) // grid
    if side > cell:
        raise ValueError(f"tiles of {side} pixels do not fit into cells of {cell}")
    start = (cell - side) // 2
    cut = x_BCHW[..., start : start + (grid - 1) * cell + side, start : start + (grid - 1) * cell + side]
    return overlapping(cut, side, cell).flatten(1, 2)


def standardised(x_BKCpp: Tensor) -> Tensor:
    """Each part to mean 0 and deviation 1 over its pixels and channels."""
    var, mean = torch.var_mean(x_BKCpp, (2, 3, 4), keepdim=True, correction=0)
    return (x_BKCpp - mean) / (var + 1e-5).sqrt()


def shuffle(parts_BK: Tensor, rng: torch.Generator) -> Tensor:
    """The parts (B, K, ...) of each image in a random order of its own."""
    order_BK = _uniform(rng, parts_BK.device, *parts_BK.shape[:2]).argsort(1)
    return parts_BK[torch.arange(len(parts_BK), device=parts_BK.device)[:, None], order_BK]


def turn(x_BCSS: Tensor, rng: torch.Generator) -> Tensor:
    """Each image by a random multiple of 90 degrees."""
    turns_4B = torch.stack([torch.rot90(x_BCSS, k, (2, 3)) for k in range(4)])
    count, device = len(x_BCSS), x_BCSS.device
    return turns_4B[(_uniform(rng, device, count) * 4).long(), torch.arange(count, device=device)]


def parts(batch: Batch, view: OneView, transform: Transform, rng: torch.Generator, executor: Executor | None) -> Tensor:
    """Parts (B, K, C, p, p) of one crop of each image, after PIRL (Misra, van der Maaten, CVPR 2020, section 3.2).

    jigsaw    nine tiles in random order, each from a cell of a crop that is 255 px where `view.size` is 224
    rotation  one part: the crop, turned by a random multiple of 90 degrees
    """
    if transform == "rotation":
        return turn(render(batch["image"], [view], rng, executor)[0], rng)[:, None]
    cell = round(view.size * 255 / 224) // 3
    (x,) = render(batch["image"], [replace(view, size=3 * cell)], rng, executor)
    return shuffle(tiles(x, 3, round(cell * 64 / 85), rng), rng)


@dataclass(frozen=True)
class ImageAndParts(OneView):
    """A crop `x`, and `parts` of another crop of the same image. The defaults are PIRL's."""

    scale: Pair = (0.08, 1.0)
    jitter: Jitter = (0.4, 0.4, 0.4, 0.2)
    gray: float = 0.2
    transform: Transform = "jigsaw"
    """jigsaw or rotation, see `parts`"""
    part_scale: Pair = (0.6, 1.0)
    """range of the share of the image that the other crop has"""

    @property
    def count(self) -> int:
        """K"""
        return 9 if self.transform == "jigsaw" else 1

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `x` float32 (B, C, size, size), `parts` (B, K, C, p, p)."""
        made = OneView.__call__(self, batch, rng, executor)
        other = replace(self, scale=self.part_scale)
        return {**made, "parts": parts(batch, other, self.transform, rng, executor)}


@dataclass(frozen=True)
class TwoViewsAndParts(TwoViews):
    """Two views `a` and `b`, and `parts` of a third crop with colours as they are. The defaults are InfoMin's."""

    scale: Pair = (0.2, 1.0)
    operations: int = 2
    """rounds of RandAugment on `a` and `b`, see `views.weak`"""
    transform: Transform = "jigsaw"
    """jigsaw or rotation, see `parts`"""
    part_scale: Pair = (0.6, 1.0)
    """range of the share of the image that the third crop has"""

    @property
    def count(self) -> int:
        """K"""
        return 9 if self.transform == "jigsaw" else 1

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `a`, `b` float32 (B, C, size, size), `parts` (B, K, C, p, p)."""
        made = TwoViews.__call__(replace(self, **PIXELS) if self.operations else self, batch, rng, executor)
        if self.operations:
            both = torch.cat((made["a"], made["b"])).clamp_(0, 1)
            for _ in range(self.operations):
                both = rand_augment_round(both, rng)
            made["a"], made["b"] = normalised(both, self.mean, self.std).chunk(2)
        third = OneView(
            size=self.size, scale=self.part_scale, ratio=self.ratio, flip=self.flip, interpolation=self.interpolation,
            mean=self.mean, std=self.std,
        )  # fmt: skip
        return {**made, "parts": parts(batch, third, self.transform, rng, executor)}


@dataclass(frozen=True)
class Patches(OneView):
    """Overlapping patches of one view, each changed apart from the others, under `patches`. The defaults are CPC v2's.

    The fields of `OneView` make the view; those of patches apply to each patch, and then colours are dropped.
    """

    size: int = 260
    scale: Pair = (0.6, 1.0)
    patch: int = 80
    """side of a patch in pixels"""
    stride: int = 36
    """from patch to patch in pixels"""
    drop_color: float = 0.8
    """probability that two of three channels of a patch are dropped, and replaced by their mean over the data"""
    patch_scale: Pair = (0.7, 1.0)
    """range of the share of the patch that a crop of it keeps, enlarged again"""
    patch_ratio: Pair = (3 / 4, 4 / 3)
    """range of the width / height of that crop"""
    patch_flip: float = 0.5
    """probability"""
    patch_jitter: Jitter = (0.4, 0.4, 0.4, 0.1)
    """strength of brightness, contrast, saturation, and hue in turns"""
    patch_gray: float = 0.25
    """probability"""

    @property
    def grid(self) -> int:
        """h = w"""
        return (self.size - self.patch) // self.stride + 1

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `patches` float32 (B, h, w, C, p, p)."""
        made = OneView.__call__(self, batch, rng, executor)
        x_BhwCpp = overlapping(made.pop("x"), self.patch, self.stride)
        shape = x_BhwCpp.shape[:3]
        x_BhwpCp = to_uint8(x_BhwCpp.flatten(0, 2), self.mean, self.std)
        each = OneView(
            size=self.patch, scale=self.patch_scale, ratio=self.patch_ratio, flip=self.patch_flip,
            jitter=self.patch_jitter, gray=self.patch_gray, mean=self.mean, std=self.std,
        )  # fmt: skip
        (x,) = render(x_BhwpCp, [each], rng, executor)
        if self.drop_color > 0 and x.shape[1] == 3:
            which, kept = _uniform(rng, x.device, 2, len(x), 1, 1, 1)
            channel = torch.arange(3, device=x.device).view(3, 1, 1)
            dropped = (which < self.drop_color) & (channel != (kept * 3).long())
            x = x.masked_fill(dropped, 0.0)
        return {**made, "patches": x.unflatten(0, shape)}

    def plain(self, batch: Batch) -> Batch:
        """That of `OneView`; grey where all views are, for then the net has seen no colours."""
        if self.gray < 1 or batch["image"].shape[-1] != 3:
            return OneView.plain(self, batch)
        x = plain(batch["image"], self.test_size or self.size, **PIXELS)
        return {"image": normalised(luma(x).expand_as(x), self.mean, self.std)}

    def resized(self, size: int) -> "Patches":
        """The view with `size` pixels a side, and as many patches in proportion, which overlap as much."""
        stride = max(1, self.stride * size // self.size)
        return replace(self, size=size, stride=stride, patch=round(self.patch * stride / self.stride))
