"""Encoders of sound, as log-mel pictures (B, 1, M, F) or waveforms (B, 1, S), by name.

Shapes: B batch, M mels, F frames, S samples, T steps in time of the features, D features.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.encoders.patches import PatchEncoder
from nolabel.encoders.tiny import Residual

Picture = tuple[int, int, int]


class TinyMel(nn.Module):
    """A residual net on log-mel pictures for one CPU core: (B, 1, M, F), M and F >= 16, -> (B, D).

    A stem and three blocks, each halving both axes: 0.4 M weights. Pitch is averaged; over time mean and maximum are
    added, since sounds are short (Niizumi et al., IJCNN 2021, section III-D).
    """

    def __init__(self, shape: Picture, stem: int = 16, widths: tuple[int, ...] = (32, 64, 160)):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 16:
            raise UserError(f"the encoder tiny_mel needs log-mel pictures of at least 16 x 16, not {tuple(shape[1:])}")
        self.dim = widths[-1]
        self.stem = nn.Conv2d(shape[0], stem, 3, 2, 1, bias=False)
        self.stages = nn.Sequential(*(Residual(a, b) for a, b in pairwise((stem, *widths))))
        self.norm = nn.BatchNorm2d(self.dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def frames(self, x: Tensor) -> Tensor:
        """Features in time (B, T, D), T = F / 16 rounded up."""
        return F.relu(self.norm(self.stages(self.stem(x))), inplace=True).mean(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h_BTD = self.frames(x)
        return h_BTD.mean(1) + h_BTD.amax(1)


class ChannelNorm(nn.Module):
    """Standardises the channels of each step in time by themselves: what comes later cannot leak into what was before."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BDT: Tensor) -> Tensor:
        return self.norm(x_BDT.transpose(1, 2)).transpose(1, 2)


class WaveConv(nn.Module):
    """Five strided convolutions on a waveform (van den Oord, Li, Vinyals 2018, section 3.1): (B, 1, S) -> (B, D).

    Kernels 10, 8, 4, 4, 4 with strides 5, 4, 2, 2, 2: a step in time every 160 samples, which sees 465 of them. The
    features of a recording are the mean over time. Biases begin at zero: they would drown a quiet recording.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 512):
        super().__init__()
        if len(shape) != 2 or shape[1] < 480:
            raise UserError(
                f"a net on waveforms needs at least 480 samples of a waveform, not inputs of {tuple(shape)}"
            )
        self.dim = width
        layers: list[nn.Module] = []
        for kernel, stride, pad in ((10, 5, 3), (8, 4, 2), (4, 2, 1), (4, 2, 1), (4, 2, 1)):
            conv = nn.Conv1d(width if layers else 1, width, kernel, stride, pad)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, ChannelNorm(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def frames(self, x: Tensor) -> Tensor:
        """Features in time (B, T, D), T = S / 160 rounded down."""
        return self.layers(x).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(x).mean(1)


def mel_tokens(
    shape: Picture, *, side: int = 16, dim: int = 768, depth: int = 12, heads: int = 12
) -> nn.Module:  # fmt: skip
    """A vision transformer on `side` x `side` patches of a log-mel picture, in the order (mel, time)."""
    if len(shape) != 3:
        raise UserError(f"an encoder of patches needs log-mel pictures, not inputs of {tuple(shape)}")
    return PatchEncoder(shape[0], shape[1:], (side, side), dim, depth, heads)


OURS: dict[str, Callable[..., nn.Module]] = {
    "tiny_mel": TinyMel,
    "tiny_mel_tokens": partial(mel_tokens, side=8, dim=96, depth=4, heads=3),
    "tiny_wave": partial(WaveConv, width=96),
    "vit_base_mel": mel_tokens,
    "wave": WaveConv,
}
"""from a name to what makes the encoder, from the shape of one input and options"""
