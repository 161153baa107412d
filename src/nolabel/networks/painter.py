"""From features back to images, and who tells images from paintings: the convolutional ends of generative methods.

Shapes: B samples, D features, C channels, h x w places of a map, S side of an image.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError


@torch.no_grad()
def map_shape(encoder: Any, size: int) -> tuple[int, int, int]:
    """(D, h, w) of an encoder's last feature map for images of `size` px; the encoder stays as it is."""
    if not hasattr(encoder, "maps"):
        raise UserError(f"{type(encoder).__name__} gives no feature maps; take tiny, a ResNet or a ViT")
    modes = {m: m.training for m in encoder.modules()}
    weight = next(encoder.parameters())
    last = encoder.eval().maps(torch.zeros(1, encoder.channels, size, size, device=weight.device, dtype=weight.dtype))[
        1
    ][-1]
    for module, mode in modes.items():
        module.training = mode
    return tuple(last.shape[1:])


class Code(nn.Module):
    """The last map of an encoder, all places of it, as one vector: images (B, C, S, S) -> (B, out).

    Encoders without maps give their features instead.
    """

    def __init__(self, encoder: Any, size: int, out: int):
        super().__init__()
        self.encoder = encoder
        self.mapped = hasattr(encoder, "maps")
        self.linear = nn.Linear(math.prod(map_shape(encoder, size)) if self.mapped else encoder.dim, out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder.maps(x)[1][-1] if self.mapped else self.encoder(x)
        return self.linear(h.flatten(1))


class Painter(nn.Module):
    """Feature maps (B, dim, h, w) -> (B, channels, 2^steps h, 2^steps w) by `steps` transposed convolutions.

    Each halves the width, which starts at `width`, down to 32; batch norm and ReLU follow it (DCGAN: Radford, Metz,
    Chintala, ICLR 2016). The output is linear.
    """

    def __init__(self, dim: int, channels: int, steps: int, width: int = 256):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(steps):
            layers += [nn.ConvTranspose2d(dim, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            dim, width = width, max(32, width // 2)
        self.layers = nn.Sequential(*layers, nn.Conv2d(dim, channels, 3, 1, 1))

    def forward(self, h_BDhw: Tensor) -> Tensor:
        return self.layers(h_BDhw)


class Decoder(nn.Module):
    """Codes (B, dim) -> images (B, channels, size, size): a linear layer to a map of at most 7 x 7, then a `Painter`."""

    def __init__(self, dim: int, channels: int, size: int, width: int = 256):
        super().__init__()
        steps = max(1, math.ceil(math.log2(size / 7)))
        self.size, self.side = size, math.ceil(size / 2**steps)
        self.into = nn.Linear(dim, 2 * width * self.side**2, bias=False)
        self.norm = nn.BatchNorm2d(2 * width)
        self.painter = Painter(2 * width, channels, steps, width)

    def forward(self, z_BD: Tensor) -> Tensor:
        h = F.relu(self.norm(self.into(z_BD).unflatten(1, (-1, self.side, self.side))))
        return self.painter(h)[..., : self.size, : self.size]


class Critic(nn.Module):
    """Images (B, channels, size, size), and codes (B, codes) where there are any -> logits (B,), high for real.

    Convolutions of stride 2 down to 4 x 4 at most, leaky ReLUs, batch norm after all but the first (DCGAN). A code is
    added to the channels of every layer after the first, as the authors of BiGAN do it: a critic that sees it at the end
    alone tells images from paintings and never asks whether the two belong together.
    """

    def __init__(self, channels: int, size: int, width: int = 64, codes: int = 0, hidden: int = 256):
        super().__init__()
        convs, wide_in, wide = [nn.Conv2d(channels, width, 4, 2, 1)], width, 2 * width
        while (size := size // 2) > 4:
            convs.append(nn.Conv2d(wide_in, wide, 4, 2, 1, bias=False))
            wide_in, wide = wide, min(2 * wide, 8 * width)
        flat = wide_in * size * size
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in convs[1:])
        self.into, self.last = nn.Linear(flat, hidden), nn.Linear(hidden, 1)
        told = [*(conv.out_channels for conv in convs[1:]), hidden] if codes else []
        self.tell = nn.ModuleList(nn.Linear(codes, wide, bias=False) for wide in told)

    def forward(self, x: Tensor, z_BD: Tensor | None = None) -> Tensor:
        told = [layer(z_BD) for layer in self.tell]
        h = F.leaky_relu(self.convs[0](x), 0.2)
        for i, (conv, norm) in enumerate(zip(self.convs[1:], self.norms)):
            h = conv(h) + told[i][:, :, None, None] if told else conv(h)
            h = F.leaky_relu(norm(h), 0.2)
        h = self.into(h.flatten(1)) + told[-1] if told else self.into(h.flatten(1))
        return self.last(F.leaky_relu(h, 0.2))[:, 0]


class ChannelwiseLinear(nn.Module):
    """A linear layer over the places of each channel apart: (B, D, h, w) to the same, D (h w)^2 weights."""

    def __init__(self, dim: int, height: int, width: int):
        super().__init__()
        places = height * width
        self.weight = nn.Parameter(torch.randn(dim, places, places) / math.sqrt(places))
        self.bias = nn.Parameter(torch.zeros(dim, places))

    def forward(self, h_BDhw: Tensor) -> Tensor:
        h_BDP = torch.einsum("bdp,dpq->bdq", h_BDhw.flatten(2), self.weight) + self.bias
        return h_BDP.view_as(h_BDhw)
