"""Views of the clustering family: crops of several sizes, with and without the whole image."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from nolabel.core.types import Batch
from nolabel.views.image import IMAGENET_MEAN, IMAGENET_STD, MultiCrop, OneView, plain, render

SWAV_VIEWS = MultiCrop(
    scale=(0.14, 1.0), local_scale=(0.05, 0.14), locals=6, jitter=(0.8, 0.8, 0.8, 0.2), blur=(0.5, 0.5, 0.5),
    solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
)  # fmt: skip
"""of SwAV and DeepCluster v2: 2 crops of 224 and 6 of 96 pixels (Caron et al., NeurIPS 2020, appendix A)"""


@dataclass(frozen=True)
class WholeAndCrops:
    """The whole image for a teacher, and crops of it for a student (OBoW, Gidaris et al. 2021, section 4.1).

    The whole image is flipped only. The small crops have the share of the area that patches of 96 px have of an image
    that was cropped to 60 to 100 % and resized to 256 px; they are placed and coloured independently of each other.
    """

    reads: ClassVar[tuple[str, ...]] = ("image",)
    size: int = 224
    """side of the whole image in pixels"""
    crop_size: int = 160
    scale: tuple[float, float] = (0.08, 0.6)
    """range of a large crop's share of the image's area"""
    crops: int = 2
    """number of large crops"""
    local_size: int = 96
    local_scale: tuple[float, float] = (0.084, 0.141)
    locals: int = 5
    """number of small crops"""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    gray: float = 0.2
    blur: float = 0.5
    """probability, of large crops"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C) -> `whole` float32 (B, C, size, size), `global` (crops, B, C, S, S), `local`.

        Every (B, C, S, S) of them is channels last in memory.
        """
        whole = OneView(size=self.size, scale=(1.0, 1.0), ratio=(1.0, 1.0), mean=self.mean, std=self.std)
        large = replace(
            whole, size=self.crop_size, scale=self.scale, ratio=(3 / 4, 4 / 3), jitter=self.jitter, gray=self.gray,
            blur=self.blur,
        )  # fmt: skip
        small = replace(large, size=self.local_size, scale=self.local_scale, blur=0.0)
        image = batch["image"]
        views = {key: value for key, value in batch.items() if key != "image"}
        views["whole"] = render(image, [whole], rng)[0]
        views["global"] = render(image, [large] * self.crops, rng)
        if self.locals:
            views["local"] = render(image, [small] * self.locals, rng)
        return views

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, size, size), see `plain`."""
        return {"image": plain(batch["image"], self.size, self.mean, self.std)}
