"""Encoders made of an encoder: what methods keep that is more than the net they were given.

Each knows by `wrapped` how it was made, which the card of a saved encoder carries, and `wrap` makes it again.
Shapes: B samples, C channels, S side in pixels, T moments, D and H features.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.networks.batchnorm import layer_norms
from nolabel.networks.mlp import mlp
from nolabel.views.color import rgb_to_lab, rgb_to_ydbdr
from nolabel.views.parts import middle_tiles, overlapping, standardised

SPACES = {
    "lab": (rgb_to_lab, (50.0, 0.0, 0.0), (50.0, 40.0, 40.0)),
    "ydbdr": (rgb_to_ydbdr, (0.5, 0.0, 0.0), (0.5, 0.5, 0.5)),
}
"""colour spaces with a channel of light and two of colour: from RGB, and what is subtracted and divided by"""


class Wrapped(nn.Module):
    """Gives on what the report and the exporters ask of an encoder: `dim`, and of images `size` and `channels`."""

    size: int
    channels: int

    def __init__(self, encoder: Any, dim: int, **wrapped: Any):
        super().__init__()
        self.dim = dim
        for name in ("size", "channels"):
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))
        self.wrapped = {"kind": type(self).__name__, **wrapped}


class Headed(Wrapped):
    """An encoder and `layers` times linear, batch norm and ReLU of width `hidden`: (B, C, S, S) -> (B, hidden)."""

    def __init__(self, encoder: Any, layers: int, hidden: int):
        super().__init__(encoder, hidden if layers else encoder.dim, layers=layers, hidden=hidden)
        self.encoder = encoder
        self.head = mlp(encoder.dim, *[hidden] * layers, 1)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


class LightAndColour(Wrapped):
    """Two encoders of one kind, for the light and for the colours of an image: (B, 3, S, S) -> (B, 2 D), joined.

    Images are RGB, normalised by `mean` and `std`. Each half sees three channels of which the other's are zero, which is
    what a net of one or two input channels computes; both start from the weights of `encoder`.
    """

    mean: Tensor
    std: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, encoder: Any, space: str, mean: tuple[float, ...], std: tuple[float, ...]):
        if space not in SPACES:
            raise UserError(f"unknown colour space '{space}' (there are: {', '.join(SPACES)})")
        if encoder.channels != 3:
            raise UserError(f"light and colour want images of 3 channels, not {encoder.channels}")
        super().__init__(encoder, 2 * encoder.dim, space=space, mean=tuple(mean), std=tuple(std))
        self.light, self.color = encoder, copy.deepcopy(encoder)
        self.convert, shift, scale = SPACES[space]
        for name, values in (("mean", mean), ("std", std), ("shift", shift), ("scale", scale)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What either half sees, (B, 3, S, S) each: light and two channels of zeros, a channel of zeros and colours."""
        with torch.autocast(x.device.type, enabled=False):
            x = (self.convert(x.float() * self.std + self.mean) - self.shift) / self.scale
        channel = torch.arange(3, device=x.device).view(3, 1, 1)
        return torch.where(channel < 1, x, 0.0), torch.where(channel < 1, 0.0, x)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the light and of the colours, (B, D) each."""
        light, color = self.split(x)
        return self.light(light), self.color(color)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.halves(x), 1)


class Patchwise(Wrapped):
    """The mean of an encoder's features of overlapping patches: (B, C, S, S) -> (B, D).

    `layer_norm` exchanges the encoder's batch norms, in place: with them patches would tell of each other.
    """

    def __init__(self, encoder: Any, patch: int, stride: int, layer_norm: bool = True):
        super().__init__(encoder, encoder.dim, patch=patch, stride=stride, layer_norm=layer_norm)
        self.encoder = layer_norms(encoder) if layer_norm else encoder
        self.patch, self.stride = patch, stride

    def each(self, patches: Tensor) -> Tensor:
        """Patches (B, h, w, C, p, p) -> features of each (B, h, w, D)."""
        return self.encoder(patches.flatten(0, 2)).unflatten(0, patches.shape[:3])

    def forward(self, x: Tensor) -> Tensor:
        return self.each(overlapping(x, self.patch, self.stride)).mean((1, 2))


class Tilewise(Wrapped):
    """The mean of an encoder's features of the tiles in the middle of `grid` x `grid` cells: (B, C, S, S) -> (B, D).

    What a net that was trained on tiles alone knows of an image, for they are what it has seen: `tile` pixels a side, and
    each standardised where they were in training. Raises ValueError where cells of the image are smaller than a tile.
    """

    def __init__(self, encoder: Any, grid: int, tile: int, standardise: bool = True):
        super().__init__(encoder, encoder.dim, grid=grid, tile=tile, standardise=standardise)
        self.encoder = encoder
        self.cells, self.tile, self.standardise = grid, tile, standardise  # `grid` is what encoders of tokens have

    def each(self, tiles: Tensor) -> Tensor:
        """Tiles (B, K, C, p, p), standardised by the view -> features of each (B, K, D)."""
        return self.encoder(tiles.flatten(0, 1)).unflatten(0, tiles.shape[:2])

    def forward(self, x: Tensor) -> Tensor:
        tiles = middle_tiles(x, self.cells, self.tile)
        return self.each(standardised(tiles) if self.standardise else tiles).mean(1)


class Edges(Wrapped):
    """An encoder of gray images filtered by Sobel: (B, 3, S, S) -> (B, D).

    It sees three channels: the change of the mean channel to the right, that downwards, and zeros.
    """

    kernel: Tensor

    def __init__(self, encoder: Any):
        if encoder.channels != 3:
            raise UserError(f"edges want images of 3 channels, not {encoder.channels}")
        super().__init__(encoder, encoder.dim)
        self.encoder = encoder
        right = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        self.register_buffer("kernel", torch.stack((right, right.T, torch.zeros(3, 3)))[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(F.conv2d(x.mean(1, keepdim=True), self.kernel.to(x.dtype), padding=1))


class Recurrent(Wrapped):
    """An encoder of moments and a GRU of width `hidden` that reads them in order: (B, ...) -> (B, H), the mean over time."""

    def __init__(self, encoder: Any, hidden: int):
        if not hasattr(encoder, "frames"):
            raise UserError("the encoder has no features of single moments, as wave and tiny_wave have")
        super().__init__(encoder, hidden, hidden=hidden)
        self.encoder = encoder
        self.context = nn.GRU(encoder.dim, hidden, batch_first=True)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder has of each moment (B, T, D), and what was heard up to it (B, T, H)."""
        z_BTD = self.encoder.frames(x)
        return z_BTD, self.context(z_BTD)[0]

    def frames(self, x: Tensor) -> Tensor:
        """What was heard up to each moment (B, T, H)."""
        return self.moments(x)[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(x).mean(1)


def wrap(encoder: Any, kind: str, **arguments: Any) -> Wrapped:
    """Make again what `wrapped` of a card describes, around a fresh encoder."""
    return {c.__name__: c for c in (Headed, LightAndColour, Patchwise, Tilewise, Edges, Recurrent)}[kind](
        encoder, **arguments
    )
