"""The encoder of the first deep nets: sigmoid layers on the pixels as one vector.

Shapes: B batch, C channels, S side of the image in pixels, D features.
"""

import torch
from torch import Tensor, nn


class Dense(nn.Module):
    """Images (B, C, S, S) -> (B, D) by `layers`, each linear and sigmoid of width D (Vincent et al., ICML 2008).

    Pixels are taken as they come; their order in memory does not matter.
    """

    def __init__(self, size: int = 32, channels: int = 3, widths: tuple[int, ...] = (1000, 1000, 1000)):
        super().__init__()
        self.size, self.channels, self.dim = size, channels, widths[-1]
        self.widths = (channels * size * size, *widths)
        layers = [nn.Linear(a, b) for a, b in zip(self.widths, widths)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight, gain=4.0)  # for sigmoids (Glorot, Bengio, AISTATS 2010)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def upto(self, x: Tensor, layers: int) -> Tensor:
        """The activations (B, widths[layers]) after the first so many layers; pixels as a vector for none."""
        h = x.contiguous().flatten(1)
        for layer in self.layers[:layers]:
            h = torch.sigmoid(layer(h))
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.upto(x, len(self.layers))
