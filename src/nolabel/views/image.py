"""Image views: random crop and flip, colour jitter, grayscale, blur, solarisation, normalisation.

The order is crop and flip -> jitter -> gray -> blur -> solarize -> normalise. Each step means what it means in
torchvision on float images, clamps included, with one independent draw for each sample and view:

- crop: RandomResizedCrop with antialias; flip left to right
- jitter: ColorJitter, its four operations in an order of their own for each sample; hue in HSV
- gray: 0.2989 R + 0.587 G + 0.114 B in all channels
- blur: gaussian with reflected borders and radius ceil(3 sigma), at most size - 1. SimCLR's kernel, a tenth of the
  side, differs only in weights below exp(-9/2) of the central one
- solarize: x becomes 1 - x where x >= 0.5

Saturation, hue and gray need RGB and are left out for any other number of channels. Pixels are computed by one of two
executors with the same meaning: `cpu_executor` (one view at a time through the cache) on the CPU, `torch_executor`
(batched) on every other device.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.constant import constant
from nolabel.core.types import Batch
from nolabel.views import torch_executor
from nolabel.views.draw import Draws, Jitter, Pair, channel_stats, draw, uncolored

Interpolation = Literal["bilinear", "bicubic"]
Executor = Literal["numba", "torch", "compiled"]
"""who computes the pixels: `cpu_executor`, `torch_executor`, or the latter through torch.compile"""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OneView:
    """One view a sample, under the key `x`. Its defaults crop and flip only, as MAE does."""

    reads: ClassVar[tuple[str, ...]] = ("image",)
    size: int = 224
    """side of the view in pixels"""
    test_size: int | None = None
    """side of the plain view, `size` if None. Crops enlarge what they show, so that a net may train at a smaller side
    than it is used at, and faster (FixRes: Touvron et al., NeurIPS 2019)"""
    scale: Pair = (0.2, 1.0)
    """range of the crop's share of the image's area"""
    ratio: Pair = (3 / 4, 4 / 3)
    """range of the crop's width / height"""
    flip: float = 0.5
    """probability"""
    jitter: Jitter = (0.0, 0.0, 0.0, 0.0)
    """strength of brightness, contrast, saturation, and hue in turns"""
    jitter_p: float = 0.8
    """probability"""
    gray: float = 0.0
    """probability"""
    blur: float = 0.0
    """probability"""
    blur_sigma: Pair = (0.1, 2.0)
    """range of the standard deviation in pixels of the view"""
    solarize: float = 0.0
    """probability"""
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """of each channel, for pixels in [0, 1]; averaged where the image has another number of channels"""
    std: tuple[float, ...] = IMAGENET_STD
    """like `mean`"""

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `x` float32 (B, C, size, size), channels last in memory."""
        (x,) = render(batch["image"], [self], rng, executor)
        return {**_others(batch), "x": x}

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, S, S) with S of `test_size` or `size`, see `plain`."""
        return {"image": plain(batch["image"], self.test_size or self.size, self.mean, self.std)}


@dataclass(frozen=True)
class TwoViews:
    """Two views a sample, under `a` and `b`. The defaults are SimCLR's (Chen et al. 2020, appendix A).

    Pairs are probabilities for `a` and `b`.
    """

    reads: ClassVar[tuple[str, ...]] = ("image",)
    size: int = 224
    test_size: int | None = None
    """side of the plain view, `size` if None; see `OneView`"""
    scale: Pair = (0.08, 1.0)
    ratio: Pair = (3 / 4, 4 / 3)
    flip: float = 0.5
    strength: float = 1.0
    """multiplies `jitter`; 0.5 for small images"""
    jitter: Jitter = (0.8, 0.8, 0.8, 0.2)
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: Pair = (0.5, 0.5)
    blur_sigma: Pair = (0.1, 2.0)
    solarize: Pair = (0.0, 0.0)
    one_sided: bool = False
    """`a` is the whole image as it is, and `b` alone augmented: how SimCLR compares augmentations (section 3.1)"""
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `a`, `b` float32 (B, C, size, size), channels last in memory."""
        if self.one_sided:
            a, b = (render(batch["image"], [view], rng, executor)[0] for view in self.each())
        else:
            a, b = render(batch["image"], self.each(), rng, executor)
        return {**_others(batch), "a": a, "b": b}

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, S, S) with S of `test_size` or `size`, see `plain`."""
        return {"image": plain(batch["image"], self.test_size or self.size, self.mean, self.std)}

    def each(self) -> list[OneView]:
        """How `a` and `b` are made."""
        brightness, contrast, saturation, hue = (self.strength * s for s in self.jitter)
        a, b = _each(self, 2, jitter=(brightness, contrast, saturation, hue))
        return [replace(a, **UNCHANGED) if self.one_sided else a, b]


UNCHANGED: dict[str, Any] = {
    "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter_p": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0
}  # fmt: skip
"""fields of `OneView` that leave a square image as it is, and cut the middle out of any other"""


@dataclass(frozen=True)
class MultiCrop:
    """Two large and several small crops a sample (SwAV, Caron et al. 2020; the defaults are DINO's, Caron et al. 2021).

    Triples are probabilities for the first large, the second large and every small crop.
    """

    reads: ClassVar[tuple[str, ...]] = ("image",)
    size: int = 224
    test_size: int | None = None
    """side of the plain view, `size` if None; see `OneView`"""
    scale: Pair = (0.4, 1.0)
    local_size: int = 96
    local_scale: Pair = (0.05, 0.4)
    locals: int = 8
    """number of small crops"""
    ratio: Pair = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: Jitter = (0.4, 0.4, 0.2, 0.1)
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)
    blur_sigma: Pair = (0.1, 2.0)
    solarize: tuple[float, float, float] = (0.0, 0.2, 0.0)
    interpolation: Interpolation = "bicubic"
    clean: bool = False
    """the large crops also as they are but for crop and flip, under `clean` (DINOv3's Gram anchoring)"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, C) -> `global` float32 (2, B, C, size, size), `local` (locals, B, C, s, s).

        Every (B, C, S, S) of them is channels last in memory.
        """
        first, second, local = self.each()
        image, large = batch["image"], [first, second]
        draws = draws_of(image, large, rng)
        views = {"global": execute(image, large, draws, executor).unflatten(0, (2, len(image)))}
        if self.clean:
            views["clean"] = execute(image, large, uncolored(draws), executor).unflatten(0, (2, len(image)))
        if self.locals:
            views["local"] = render(batch["image"], [local] * self.locals, rng, executor)
        return {**_others(batch), **views}

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, S, S) with S of `test_size` or `size`, see `plain`."""
        return {"image": plain(batch["image"], self.test_size or self.size, self.mean, self.std)}

    def each(self) -> list[OneView]:
        """How the first large, the second large and a small crop are made."""
        first, second, local = _each(self, 3)
        return [first, second, replace(local, size=self.local_size, scale=self.local_scale)]


BYOL_VIEWS = TwoViews(
    jitter=(0.4, 0.4, 0.2, 0.1), blur=(1.0, 0.1), solarize=(0.0, 0.2), interpolation="bicubic"
)  # fmt: skip
"""the two unlike views of BYOL (Grill et al. 2020, appendix B, table 6), which later methods took over"""


def _each(recipe: TwoViews | MultiCrop, count: int, **changes: Any) -> list[OneView]:
    """The single views of a recipe: alike in all that it shares with `OneView`, but blurred and solarised by turns."""
    shared = {f.name: getattr(recipe, f.name) for f in fields(OneView) if hasattr(recipe, f.name)} | changes
    return [OneView(**shared | {"blur": recipe.blur[i], "solarize": recipe.solarize[i]}) for i in range(count)]


def render(image_BHWC: Tensor, views: list[OneView], rng: torch.Generator, executor: Executor | None = None) -> Tensor:
    """Views of one size of every image: uint8 (B, H, W, C) -> float32 (V, B, C, size, size)."""
    draws = draws_of(image_BHWC, views, rng)
    return execute(image_BHWC, views, draws, executor).unflatten(0, (len(views), len(image_BHWC)))


def draws_of(image_BHWC: Tensor, views: list[OneView], rng: torch.Generator) -> Draws:
    """What is drawn for views of every image uint8 (B, H, W, C), a row for each."""
    if image_BHWC.dtype != torch.uint8 or image_BHWC.ndim != 4:
        raise ValueError(f"image must be uint8 (B, H, W, C), not {image_BHWC.dtype} {tuple(image_BHWC.shape)}")
    count, height, width, _ = image_BHWC.shape
    return draw(views, count, height, width, rng, image_BHWC.device)


def execute(image_BHWC: Tensor, views: list[OneView], draws: Draws, executor: Executor | None = None) -> Tensor:
    """The views that were drawn, one row each of N: uint8 (B, H, W, C) -> float32 (N, C, size, size).

    Without `executor` numba serves the CPU and torch every other device.
    """
    if executor is None:
        executor = "numba" if image_BHWC.device.type == "cpu" else "torch"
    if executor == "numba":
        from nolabel.views import cpu_executor  # here, because importing numba takes half a second

        return cpu_executor.render(image_BHWC.contiguous(), views[0], draws)
    return torch_executor.render(image_BHWC.contiguous(), views, draws, compiled=executor == "compiled")


def plain(
    image_BHWC: Tensor, size: int, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> Tensor:
    """The view for evaluation: uint8 (B, H, W, C) -> normalised float32 (B, C, size, size), channels last in memory.

    The shorter side is resized to `size` (antialiased bilinear, nothing where it already is) and the centre cut out.
    """
    x = image_BHWC.permute(0, 3, 1, 2).float()
    height, width = x.shape[-2:]
    short = min(height, width)
    if short != size:
        shape = (size * height // short, size * width // short)
        x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
    top, left = round((x.shape[-2] - size) / 2), round((x.shape[-1] - size) / 2)
    x = x[..., top : top + size, left : left + size]
    mean, std = channel_stats(mean, std, x.shape[1])
    scale_C11 = constant(tuple(1 / (255 * s) for s in std), x.device).view(-1, 1, 1)
    shift_C11 = constant(tuple(m / s for m, s in zip(mean, std)), x.device).view(-1, 1, 1)
    return (x * scale_C11 - shift_C11).contiguous(memory_format=torch.channels_last)


def to_uint8(x_BCHW: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Tensor:
    """Undo the normalisation for pictures: float (B, C, H, W) -> uint8 (B, H, W, C), values outside [0, 1] clipped."""
    mean, std = channel_stats(mean, std, x_BCHW.shape[1])
    x_BHWC = x_BCHW.detach().float().permute(0, 2, 3, 1)
    x_BHWC = x_BHWC * constant(std, x_BHWC.device) + constant(mean, x_BHWC.device)
    return (x_BHWC * 255).round().clamp(0, 255).to(torch.uint8)


def _others(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key != "image"}
