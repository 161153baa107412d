"""Encoders of video (B, C, T, H, W), by name: two tiny ones, vision transformers on tubes, image networks by frame.

Shapes: B batch, C channels, T frames, S side in pixels, D features.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.encoders.image import image_encoder
from nolabel.encoders.patches import PatchEncoder
from nolabel.encoders.sizes import divided

Shape = tuple[int, int, int, int]


class SpaceTime(nn.Module):
    """3x3 in space, 3 in time, 3x3 in space, and a shortcut, norms before convolutions (Tran et al., CVPR 2018).

    Halves the side, and with `stride` 2 the number of frames. Frames lie in the batch axis and channels last in memory,
    so each convolution is a flat one on the same bytes: on CPUs twenty times as fast as those for volumes.
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.norm1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.time = nn.Conv2d(width, width, (3, 1), (stride, 1), (1, 0), bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(width_in, width, 1, 2, bias=False)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B * T, C, H, W) with T = `frames` -> (B * T / stride, D, H / 2, W / 2)."""
        h = F.relu(self.norm1(x), inplace=True)
        y = self._over_time(F.relu(self.norm2(self.conv1(h)), inplace=True), frames)
        kept = h if self.stride == 1 else h.unflatten(0, (-1, frames))[:, :: self.stride].flatten(0, 1)
        return self.shortcut(kept) + self.conv2(F.relu(self.norm3(y), inplace=True))

    def _over_time(self, x: Tensor, frames: int) -> Tensor:
        """The convolution over time, on a picture with time down and all places across."""
        height, width = x.shape[2:]
        x_BTPC = x.permute(0, 2, 3, 1).reshape(-1, frames, height * width, x.shape[1])
        y_BTPC = self.time(x_BTPC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y_BTPC.reshape(-1, height, width, y_BTPC.shape[3]).permute(0, 3, 1, 2)


class TinyVideo(nn.Module):
    """A residual net of space and time for one CPU core: clips (B, C, T, S, S), S >= 16, -> (B, D).

    A stem that halves the side, then blocks that halve it again, the last two also the number of frames; the mean over
    places and time. About 0.5 M weights.
    """

    def __init__(self, shape: Shape, stem: int = 24, widths: tuple[int, ...] = (48, 80, 160)):
        super().__init__()
        if min(shape[2:]) < 16:
            raise UserError(f"the encoder tiny_video needs frames of at least 16 px, not {min(shape[2:])}")
        self.channels, self.size, self.dim = shape[0], shape[2], widths[-1]
        self.map_dims = (self.dim,)
        self.stem = nn.Conv2d(shape[0], stem, 3, 2, 1, bias=False)
        self.stages = nn.ModuleList(
            SpaceTime(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairwise((stem, *widths)))
        )
        self.norm = nn.BatchNorm2d(self.dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features (B, D) and what they are the mean of, (B, D, T / 4, S / 16, S / 16), sizes rounded up."""
        frames = x.shape[2]
        y = self.stem(x.transpose(1, 2).flatten(0, 1))
        for stage in self.stages:
            y = stage(y, frames)
            frames = -(-frames // stage.stride)  # type: ignore
        y = F.relu(self.norm(y), inplace=True).unflatten(0, (len(x), frames)).transpose(1, 2)
        return y.mean((2, 3, 4)), [y]

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[0]


class PerFrame(nn.Module):
    """An encoder of images on every frame: (B, C, T, S, S) -> (B, D), the mean over time."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.dim: int = net.dim  # type: ignore[assignment]

    def frames(self, x: Tensor) -> Tensor:
        """Features of every frame (B, T, D)."""
        return self.net(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1))

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(x).mean(1)


def tubes(
    shape: Shape, *, side: int = 16, dim: int = 768, depth: int = 12, heads: int = 12, time: int = 2
) -> nn.Module:
    """A vision transformer on tubes of `time` frames and `side` x `side` pixels."""
    return PatchEncoder(shape[0], shape[1:], (time, side, side), dim, depth, heads)


def tiny_tubes(shape: Shape) -> nn.Module:
    """Width 96, depth 4, 3 heads: 8 x 8 tubes of two frames each."""
    return tubes(shape, side=divided("tiny_tubes", shape[2], 8), dim=96, depth=4, heads=3)


def per_frame(name: str, shape: Shape, **options: Any) -> nn.Module:
    """The image encoder `name` on every frame."""
    return PerFrame(image_encoder(name, shape[-1], shape[0], **options))


OURS: dict[str, Callable[..., nn.Module]] = {
    "tiny_video": TinyVideo,
    "tiny_tubes": tiny_tubes,
    "vit_small_tubes": partial(tubes, dim=384, heads=6),
    "vit_base_tubes": tubes,
}
"""from a name to what makes the encoder, from the shape of one input and options; other names are image encoders,
which then see every frame"""
