"""Convolutions that leave out the taps which meet nothing but padding.

At 32 px the last stage of a ResNet with ImageNet's stem has maps of 1 x 1, where eight of the nine taps of a 3 x 3 kernel are
multiplied by zeros. Products by zero add nothing, so results stay as they are, bit by bit where sums are taken in order.
"""

from functools import cache

import torch.nn.functional as F
from torch import Tensor, nn


@cache
def inside(size: int, kernel: int, stride: int, padding: int) -> tuple[int, int, int]:
    """First tap, number of taps and padding that give what all taps of one axis give on a map of this size."""
    places = range(0, size + 2 * padding - kernel + 1, stride)
    used = [tap for tap in range(kernel) if any(padding <= place + tap < padding + size for place in places)]
    if not used:
        return 0, kernel, padding
    first, taps = used[0], used[-1] - used[0] + 1
    left = padding - first
    # a convolution pads both ends alike, which may give other numbers of places
    alike = left >= 0 and (size + 2 * left - taps) // stride + 1 == len(places)
    return (first, taps, left) if alike else (0, kernel, padding)


class InsideConv2d(nn.Conv2d):
    """`nn.Conv2d`, weights and all, that is quick on maps smaller than its kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        if all(n >= k for n, k in zip(x.shape[-2:], self.kernel_size)):
            return super().forward(x)
        weight, padding = self.weight, []
        for axis in (0, 1):
            sizes = self.kernel_size[axis], self.stride[axis], int(self.padding[axis])
            first, taps, left = inside(x.shape[axis - 2], *sizes)
            weight = weight.narrow(axis + 2, first, taps)
            padding.append(left)
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def quick_on_small_maps(net: nn.Module) -> None:
    """Make the plain convolutions of `net` an `InsideConv2d`, in place. Names and weights stay."""
    for module in net.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
            continue
        if max(module.kernel_size) > 1 and module.dilation == (1, 1):
            module.__class__ = InsideConv2d
