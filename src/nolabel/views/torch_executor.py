"""Image views of a whole batch at once in torch, for any device, which is never waited for.

Crop, resize and flip are one pair of matrix products with resampling matrices of each sample; so is the blur. The four
colour operations come in another order in every sample, with a clamp after each. Every order is some of {brightness,
contrast, saturation}, then hue, then the rest of them, and these three are one formula,

    x <- clamp(f x + (1 - f) (s gray(x) + c mean(gray(x))))      f = 1: no change, s = 1: saturation, c = 1: contrast

so three rounds of it, one hue and three more rounds serve all samples. Pixels are in [0, 255] until the last step.

Legend: B images, V views of each, C channels, H x W pixels of the image, S x S of the view.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nolabel.views.draw import CONTRAST, HUE, SATURATION, Draws, channel_stats

if TYPE_CHECKING:
    from nolabel.views.image import OneView


def render(image_BHWC: Tensor, views: Sequence["OneView"], draws: Draws, compiled: bool = False) -> Tensor:
    """uint8 (B, H, W, C), B draws for each view -> float32 (V * B, C, S, S), channels last in memory."""
    pixels = _compiled_pixels() if compiled else _pixels
    each = zip(*(t.chunk(len(views)) for t in draws))
    return torch.cat([pixels(image_BHWC, view, Draws(*draw)) for view, draw in zip(views, each)])


@cache
def _compiled_pixels() -> Callable[..., Tensor]:
    return torch.compile(_pixels)


def _pixels(image_BHWC: Tensor, view: "OneView", draw: Draws) -> Tensor:
    """One view of every image, float32 (B, S, S, C) in memory."""
    small = image_BHWC.device.type == "cpu" and max(image_BHWC.shape[1:3]) <= view.size
    crop = _gather if small and view.interpolation == "bilinear" else _matmul
    x = crop(image_BHWC, draw, view.size, view.interpolation == "bicubic")
    if view.jitter_p > 0 and any(view.jitter):
        x = _jitter(x, draw)
    if view.gray > 0 and x.shape[1] == 3:
        x = torch.where(draw.gray.view(-1, 1, 1, 1), _gray(x), x)
    if view.blur > 0:
        x = _blur(x, draw.sigma)
    if view.solarize > 0:
        x = torch.where(draw.solarize.view(-1, 1, 1, 1) & (x >= 127.5), 255 - x, x)
    mean, std = channel_stats(view.mean, view.std, x.shape[1])
    planes = [x[:, c] * (1 / (255 * std[c])) - mean[c] / std[c] for c in range(x.shape[1])]
    return torch.stack(planes, -1).permute(0, 3, 1, 2)


def _matmul(image_BHWC: Tensor, draw: Draws, size: int, cubic: bool) -> Tensor:
    """Crop, resize and flip -> (B, C, S, S)."""
    count, height, width, channels = image_BHWC.shape
    top, left, h, w = draw.box.float().unbind(1)
    rows_BSH = _resampling(top, h, height, size, cubic, torch.zeros_like(draw.flip))
    columns_BSW = _resampling(left, w, width, size, cubic, draw.flip)
    x = rows_BSH @ image_BHWC.float().flatten(2)
    x = x.view(count, size, width, channels).permute(0, 3, 1, 2).reshape(count, channels * size, width)
    x = (x @ columns_BSW.mT).view(count, channels, size, size)
    return x.clamp(0, 255) if cubic else x


def _resampling(start: Tensor, length: Tensor, pixels: int, size: int, cubic: bool, flip: Tensor) -> Tensor:
    """Weights (B, S, pixels) of antialiased resampling of [start, start + length), as Pillow defines it."""
    scale = (length / size)[:, None, None]
    out = torch.arange(size, device=start.device, dtype=torch.float32)
    out = torch.where(flip[:, None], size - 1 - out, out)[:, :, None]
    center = start[:, None, None] + (out + 0.5) * scale
    pixel = torch.arange(pixels, device=start.device, dtype=torch.float32)
    x = ((pixel + 0.5 - center) / scale.clamp(min=1)).abs()
    if cubic:  # Keys' kernel with a = -1/2
        w = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2) * (x < 2)
    else:
        w = (1 - x).clamp(min=0)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    w = w * inside[:, None]
    return w / w.sum(-1, keepdim=True)


def _gather(image_BHWC: Tensor, draw: Draws, size: int, cubic: bool) -> Tensor:
    """The same where it only enlarges, from the four pixels around each point: on a CPU far less work."""
    top, left, h, w = draw.box.float().unbind(1)
    out = torch.arange(size, device=top.device) + 0.5

    def neighbours(start: Tensor, length: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = (start[:, None] + out * (length / size)[:, None] - 0.5).clamp(min=start[:, None])
        at = torch.minimum(at, (start + length - 1)[:, None])
        low = at.floor()
        high = torch.minimum(low + 1, (start + length - 1)[:, None])
        return low.long(), high.long(), at - low

    y0, y1, v = neighbours(top, h, out.expand(len(top), -1))
    x0, x1, u = neighbours(left, w, torch.where(draw.flip[:, None], size - out, out))
    b = torch.arange(len(top), device=top.device)[:, None, None]
    u, v = u[:, None, :], v[:, :, None]
    planes = []
    for c in range(image_BHWC.shape[3]):
        (p00, p01), (p10, p11) = (
            [image_BHWC[b, y[:, :, None], x[:, None, :], c].float() for x in (x0, x1)] for y in (y0, y1)
        )
        planes.append((p00 * (1 - u) + p01 * u) * (1 - v) + (p10 * (1 - u) + p11 * u) * v)
    return torch.stack(planes, 1)


def _jitter(x: Tensor, draw: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue in the order of each sample; x (B, C, S, S)."""
    place = draw.order.argsort(1)  # of each operation
    contrast_at = place[:, CONTRAST, None]
    identity = (torch.arange(4, device=x.device) != HUE).float()  # factors of 1, no shift of hue
    x = _pointwise(x, torch.where(place < contrast_at, draw.jitter, identity), place)
    gray = _gray(x) if x.shape[1] == 3 else x
    factor = _per_sample(draw.jitter[:, CONTRAST])
    x = (x * factor + gray.mean((1, 2, 3), keepdim=True) * (1 - factor)).clamp(0, 255)
    return _pointwise(x, torch.where(place > contrast_at, draw.jitter, identity), place)


def _pointwise(x: Tensor, jitter: Tensor, place: Tensor) -> Tensor:
    """Brightness, saturation and hue by `jitter` (B, 4), in the order of `place` (B, 4)."""
    at_b, _, at_s, at_h = place.unbind(1)
    bright, _, saturation, turn = jitter.unbind(1)

    def brightness(x: Tensor, now: Tensor) -> Tensor:
        return (x * _per_sample(torch.where(now, bright, 1.0))).clamp(0, 255)

    if x.shape[1] != 3:
        return brightness(x, at_b >= 0)
    for before_hue in (True, False):
        b, s = (at_b < at_h) == before_hue, (at_s < at_h) == before_hue
        x = brightness(x, b & (at_b < at_s))
        factor = _per_sample(torch.where(s, saturation, 1.0))
        x = (x * factor + _gray(x) * (1 - factor)).clamp(0, 255)
        x = brightness(x, b & (at_b > at_s))
        x = _hue(x, turn.view(-1, 1, 1)) if before_hue else x
    return x


def _per_sample(factor_B: Tensor) -> Tensor:
    return factor_B.view(-1, 1, 1, 1)


def _gray(x: Tensor) -> Tensor:
    """Luma of RGB (B, 3, S, S) -> (B, 1, S, S), the weights of ITU-R BT.601."""
    return (0.2989 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])[:, None]


def _hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by `shift` turns in [-1/2, 1/2]; hue counts sixths of a turn from red."""
    r, g, b = x.unbind(1)
    high, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    chroma = high - low
    inverse = 1 / chroma.clamp(min=1e-12)  # without chroma the numerators are 0 as well
    hue = torch.where(
        high == r, (g - b) * inverse, torch.where(high == g, (b - r) * inverse + 2, (r - g) * inverse + 4)
    )
    hue = hue + 6 * shift
    hue = hue - 6 * torch.floor(hue / 6)
    r = ((hue - 3).abs() - 1).clamp(0, 1)
    g = (2 - (hue - 2).abs()).clamp(0, 1)
    b = (2 - (hue - 4).abs()).clamp(0, 1)
    return torch.stack((low + chroma * r, low + chroma * g, low + chroma * b), 1)


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur as two products with banded matrices (B, S, S); samples with sigma 0 stay as they are."""
    size = x.shape[-1]
    on = sigma > 0
    safe = torch.where(on, sigma, 1.0)[:, None, None]
    radius = (3 * safe).ceil().clamp(max=size - 1)
    at = torch.arange(size, device=x.device)
    # a weight at distance |i - j|, and where the reflected border brings column j to row i again
    ways = (at[:, None] - at, at[:, None] + at, at[:, None] + at - 2 * (size - 1))
    matrix = x.new_zeros(())
    for n, distance in enumerate(ways):
        d = distance.float().expand(len(x), -1, -1)
        w = torch.exp(-0.5 * (d / safe) ** 2) * (d.abs() <= radius)
        if n:  # the border itself is not repeated
            w = w * (at != (0 if n == 1 else size - 1))
        matrix = matrix + w
    matrix = (matrix / matrix.sum(-1, keepdim=True))[:, None]
    return torch.where(on.view(-1, 1, 1, 1), matrix @ x @ matrix.mT, x)
