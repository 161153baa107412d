"""Light and colours of an image apart, for methods that paint one from the other.

Shapes: B images, C = 3 channels of RGB, S side of the view.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nolabel.core.types import Batch, UserError
from nolabel.views.color import rgb_to_lab
from nolabel.views.image import Executor, OneView


@dataclass(frozen=True)
class LightAndColor(OneView):
    """`light` (B, 1, S, S) = (L - 50) / 50 and `ab` (B, 2, S, S) of one view; an encoder sees light alone."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """as `std`: pixels stay in [0, 1]"""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __call__(self, batch: Batch, rng: torch.Generator, executor: Executor | None = None) -> Batch:
        """`image` uint8 (B, H, W, 3) -> `light`, `ab` float32."""
        made = OneView.__call__(self, batch, rng, executor)
        light, ab = split(made.pop("x"))
        return {**made, "light": light, "ab": ab}

    def plain(self, batch: Batch) -> Batch:
        """`image` uint8 (B, H, W, 3) -> `image` float32 (B, 1, S, S), the light."""
        return {"image": split(OneView.plain(self, batch)["image"])[0]}


def split(rgb_B3SS: Tensor) -> tuple[Tensor, Tensor]:
    """RGB in [0, 1] -> light in [-1, 1] (B, 1, S, S), a and b (B, 2, S, S)."""
    if rgb_B3SS.shape[1] != 3:
        raise UserError(f"colours need images of 3 channels, not {rgb_B3SS.shape[1]}")
    lab = rgb_to_lab(rgb_B3SS)
    return (lab[:, :1] - 50) / 50, lab[:, 1:]
