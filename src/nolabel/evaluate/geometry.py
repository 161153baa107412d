"""Geometry: what the features look like without any label. Always available, and the first place where collapse shows.

Numbers are those of `nolabel.losses.geometry` on the training features: `std` (1 healthy, 0 collapsed), `rankme`
(effective dimensions, 1 to D), `uniformity` (0 collapsed, about -4 spread), `alpha_req` (decay of the spectrum).
They compare states of one method; they do not rank methods against each other.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from nolabel.core.random import fold, generator
from nolabel.evaluate.features import EvalData
from nolabel.losses.geometry import alpha_req, feature_std, rankme, uniformity

_SUBSET = 0x6E0
"""purpose of the seed"""


@dataclass(frozen=True)
class Geometry:
    """Spread and rank of the features of a random subset of the training split."""

    samples: int = 25_600
    """rows for the spectrum, the number that the RankMe paper uses"""
    pairs: int = 4096
    """rows for uniformity, which looks at all their pairs"""

    name: ClassVar[str] = "geometry"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("std", "rankme", "uniformity", "alpha_req")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Each metric that the number of rows and features allows."""
        x_ND = data.features(encoder, "train").x
        order = torch.randperm(len(x_ND), generator=generator(fold(data.seed, _SUBSET)))[: self.samples]
        x_ND = x_ND[order].to(data.device)
        values = {"std": feature_std(x_ND), "rankme": rankme(x_ND)}
        if len(x_ND) > 1:
            values["uniformity"] = uniformity(x_ND[: self.pairs])
        if min(x_ND.shape) >= 16:  # a power law through fewer points says nothing
            values["alpha_req"] = alpha_req(x_ND)
        return {name: float(value) for name, value in values.items()}
