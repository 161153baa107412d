"""Encoders made of an encoder: what methods keep that is more than the net they were given.

Each knows by `wrapped` how it was made, which the card of a saved encoder carries, and `wrap` makes it again.
Shapes: B images, C channels, S side in pixels, D features.
"""

from typing import Any

from torch import Tensor, nn

from nolabel.networks.mlp import mlp


class Wrapped(nn.Module):
    """Gives on what the report and the exporters ask of an encoder of images: `dim`, `size`, `channels`."""

    def __init__(self, encoder: Any, dim: int, **wrapped: Any):
        super().__init__()
        self.dim, self.size, self.channels = dim, encoder.size, encoder.channels
        self.wrapped = {"kind": type(self).__name__, **wrapped}


class Headed(Wrapped):
    """An encoder and `layers` times linear, batch norm and ReLU of width `hidden`: (B, C, S, S) -> (B, hidden)."""

    def __init__(self, encoder: Any, layers: int, hidden: int):
        super().__init__(encoder, hidden if layers else encoder.dim, layers=layers, hidden=hidden)
        self.encoder = encoder
        self.head = mlp(encoder.dim, *[hidden] * layers, 1)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def wrap(encoder: Any, kind: str, **arguments: Any) -> Wrapped:
    """Make again what `wrapped` of a card describes, around a fresh encoder."""
    return {c.__name__: c for c in (Headed,)}[kind](encoder, **arguments)
