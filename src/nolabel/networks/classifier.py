"""An encoder with a linear classifier on it."""

from typing import Any

from torch import nn

from nolabel.core import DataInfo, UserError


def classifier(encoder: Any, data: DataInfo, outputs: int = 1) -> nn.Sequential:
    """Samples -> logits (B, outputs * C) of the C classes of the data. Raises UserError where there are fewer than two."""
    if len(data.classes) < 2:
        raise UserError(f"a classifier needs at least 2 classes and the data has {len(data.classes)}")
    return nn.Sequential(encoder, nn.Linear(encoder.dim, outputs * len(data.classes)))
