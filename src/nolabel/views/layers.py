"""One crop of everything that is known about each pixel: colour, depth, class.

Shapes: B samples, H x W stored pixels, S side of a view.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nolabel.core.types import Batch
from nolabel.views.draw import Draws, Pair, draw
from nolabel.views.image import IMAGENET_MEAN, IMAGENET_STD, OneView, plain


@dataclass(frozen=True)
class Layers:
    """The same crop and flip of image, depth and segmentation. The defaults are MultiMAE's (Bachmann et al. 2022)."""

    reads: ClassVar[tuple[str, ...]] = ("image", "depth", "segmentation")
    size: int = 224
    """S, side of the view in pixels"""
    scale: Pair = (0.2, 1.0)
    """range of the crop's share of the image's area"""
    flip: float = 0.5
    """probability"""
    cell: int = 4
    """pixels to a side of which one class is kept"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`image` uint8 (B, H, W, C), `depth` float (B, H, W), `segmentation` integers (B, H, W), -1 where unknown.

        -> `image` float32 (B, C, S, S); `depth` (B, 1, S, S), standardised by `standardised`; `segmentation` int64
        (B, S / cell, S / cell).
        """
        view = OneView(
            size=self.size, scale=self.scale, flip=self.flip, mean=self.mean, std=self.std, interpolation="bicubic"
        )
        image_BHWC = batch["image"]
        count, height, width, _ = image_BHWC.shape
        draws = draw([view], count, height, width, rng.clone_state(), image_BHWC.device)  # those that `view` will draw
        others = {k: v for k, v in batch.items() if k not in self.reads}
        return {
            **others,
            "image": view({"image": image_BHWC}, rng)["x"],
            "depth": standardised(cut(batch["depth"].float(), draws, self.size))[:, None],
            "segmentation": cut(batch["segmentation"], draws, self.size // self.cell).long(),
        }

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, C) -> `image` float32 (B, C, S, S): of an encoder little else is asked."""
        return {"image": plain(batch["image"], self.size, self.mean, self.std)}


def cut(map_BHW: Tensor, draws: Draws, side: int) -> Tensor:
    """The drawn crops of a map, flipped where drawn: each of side x side cells takes the pixel at its centre."""
    top, left, height, width = draws.box.unbind(1)
    centre_S = (torch.arange(side, device=map_BHW.device) + 0.5) / side
    y_BS = (top[:, None] + height[:, None] * centre_S).long()
    x_BS = (left[:, None] + width[:, None] * torch.where(draws.flip[:, None], 1 - centre_S, centre_S)).long()
    sample_B = torch.arange(len(map_BHW), device=map_BHW.device)
    return map_BHW[sample_B[:, None, None], y_BS[:, :, None], x_BS[:, None, :]]


def standardised(depth_BHW: Tensor, trim: float = 0.1) -> Tensor:
    """Less the mean, over the deviation, of each map without its lowest and highest `trim` of values."""
    middle_BN = depth_BHW.flatten(1).sort(1).values
    cut_off = int(trim * middle_BN.shape[1])
    var_B1, mean_B1 = torch.var_mean(middle_BN[:, cut_off : middle_BN.shape[1] - cut_off], 1, keepdim=True)
    return (depth_BHW - mean_B1[..., None]) / (var_B1[..., None] + 1e-6).sqrt()


def squares(map_BHW: Tensor, side: int) -> Tensor:
    """A map cut into squares of side x side cells, row by row: (B, N, side * side)."""
    return map_BHW.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(1, 2)
