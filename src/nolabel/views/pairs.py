"""Views of samples with a picture and a text."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from nolabel.core.types import Batch
from nolabel.views.draw import Pair
from nolabel.views.image import IMAGENET_MEAN, IMAGENET_STD, OneView
from nolabel.views.text import OneText


@dataclass(frozen=True)
class Captioned:
    """A crop of the image under `image` and the caption under `text`. The defaults are CLIP's (Radford et al. 2021)."""

    reads: ClassVar[tuple[str, ...]] = ("image", "text")
    size: int = 224
    """side of the view in pixels"""
    scale: Pair = (0.9, 1.0)
    """range of the crop's share of the image's area"""
    flip: float = 0.0
    """probability; captions may say left and right"""
    length: int = 77
    """tokens of a caption; longer ones are cut"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C), `text` int64 (B, L) -> `image` float32 (B, C, size, size), `text` (B, W)."""
        image, text = self.each()
        views = image(text(batch, rng), rng)
        return {**{k: v for k, v in views.items() if k != "x"}, "image": views["x"]}

    def plain(self, batch: Batch) -> Batch:
        """The same without augmentation: the middle of the image, the beginning of the caption."""
        image, text = self.each()
        return {**image.plain(batch), **text.plain(batch)}

    def each(self) -> tuple[OneView, OneText]:
        """How image and text are made."""
        image = OneView(
            size=self.size, scale=self.scale, flip=self.flip, mean=self.mean, std=self.std, interpolation="bicubic"
        )
        return image, OneText(self.length, crop=False)
