"""An encoder with a linear classifier on it, and the mean of its predictions over transforms."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import DataInfo, UserError


def classifier(encoder: Any, data: DataInfo, outputs: int = 1) -> nn.Sequential:
    """Samples -> logits (B, outputs * C) of the C classes of the data. Raises UserError where there are fewer than two."""
    if len(data.classes) < 2:
        raise UserError(f"a classifier needs at least 2 classes and the data has {len(data.classes)}")
    return nn.Sequential(encoder, nn.Linear(encoder.dim, outputs * len(data.classes)))


class Ensemble(nn.Module):
    """The mean of a net's probabilities (B, C) over zooms into the middle of each image, as they are and mirrored."""

    def __init__(self, net: nn.Module, zooms: tuple[float, ...]):
        super().__init__()
        self.net, self.zooms = net, zooms

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(view).float().softmax(1) for view in self.transforms(x)]).mean(0)

    def transforms(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, S, S) -> as many of them as there are transforms, mirror images last."""
        side, zoomed = x.shape[-1], []
        for zoom in self.zooms:
            part = max(1, round(side / zoom))
            first = (side - part) // 2
            middle = x[..., first : first + part, first : first + part]
            zoomed.append(middle if part == side else F.interpolate(middle, (side, side), mode="bilinear"))
        return [*zoomed, *(view.flip(3) for view in zoomed)]
