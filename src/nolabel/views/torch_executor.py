"""Image views of a whole batch at once in torch, for any device, which is never waited for.

Crop, resize and flip are one pair of matrix products with resampling matrices of each sample; so is the blur. The four
colour operations come in another order in every sample, with a clamp after each. Every order is some of {brightness,
contrast, saturation}, then hue, then the rest of them, and these three are one formula,

    x <- clamp(f x + (1 - f) (s gray(x) + c mean(gray(x))))      f = 1: no change, s = 1: saturation, c = 1: contrast

so three rounds of it, one hue and three more rounds serve all samples. Pixels are in [0, 255] until the last step.

Legend: B images, V views of each, C channels, H x W pixels of the image, S x S of the view. Channels are a list of
planes (B, S, S), since compiled code would compute all of them for each element of one stacked tensor.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nolabel.views.draw import CONTRAST, HUE, SATURATION, Draws, channel_stats

if TYPE_CHECKING:
    from nolabel.views.image import OneView

Planes = list[Tensor]


def render(image_BHWC: Tensor, views: Sequence["OneView"], draws: Draws, compiled: bool = False) -> Tensor:
    """uint8 (B, H, W, C), B draws for each view -> float32 (V * B, C, S, S), channels last in memory."""
    pixels = _compiled_pixels() if compiled else _pixels
    each = zip(*(t.chunk(len(views)) for t in draws))
    with torch.autocast(image_BHWC.device.type, enabled=False):  # bfloat16 would cost two of eight bits
        made = [pixels(image_BHWC, view, Draws(*draw)) for view, draw in zip(views, each)]
    return torch.cat(made).permute(0, 3, 1, 2)


@cache
def _compiled_pixels() -> Callable[..., Tensor]:
    return torch.compile(_pixels)


def _pixels(image_BHWC: Tensor, view: "OneView", draw: Draws) -> Tensor:
    """One view of every image, float32 (B, S, S, C)."""
    only_enlarges = max(image_BHWC.shape[1:3]) <= view.size and view.interpolation == "bilinear"
    crop = _gather if only_enlarges and image_BHWC.device.type == "cpu" else _matmul
    planes = crop(image_BHWC, draw, view.size, view.interpolation == "bicubic")
    if view.jitter_p > 0 and any(view.jitter):
        planes = _jitter(planes, draw)
    if view.gray > 0 and len(planes) == 3:
        gray = _gray(planes)
        planes = [torch.where(_pixelwise(draw.gray), gray, x) for x in planes]
    if view.blur > 0:
        planes = _blur(planes, draw.sigma)
    if view.solarize > 0:
        planes = [torch.where(_pixelwise(draw.solarize) & (x >= 127.5), 255 - x, x) for x in planes]
    mean, std = channel_stats(view.mean, view.std, len(planes))
    return torch.stack([x * (1 / (255 * s)) - m / s for x, m, s in zip(planes, mean, std)], -1)


def _pixelwise(value_B: Tensor) -> Tensor:
    return value_B.view(-1, 1, 1)


# ---- resampling


def _matmul(image_BHWC: Tensor, draw: Draws, size: int, cubic: bool) -> Planes:
    """Crop, resize and flip."""
    count, height, width, channels = image_BHWC.shape
    top, left, h, w = draw.box.float().unbind(1)
    rows_BSH = _resampling(top, h, height, size, cubic, torch.zeros_like(draw.flip))
    columns_BSW = _resampling(left, w, width, size, cubic, draw.flip)
    x = rows_BSH @ image_BHWC.float().flatten(2)
    x = x.view(count, size, width, channels).permute(0, 3, 1, 2).reshape(count, channels * size, width)
    x = (x @ columns_BSW.mT).view(count, channels, size, size)
    return list((x.clamp(0, 255) if cubic else x).unbind(1))


def _resampling(start: Tensor, length: Tensor, pixels: int, size: int, cubic: bool, flip: Tensor) -> Tensor:
    """Weights (B, S, pixels) of antialiased resampling of [start, start + length), as Pillow defines it."""
    scale = _pixelwise(length / size)
    out = torch.arange(size, device=start.device, dtype=torch.float32)
    out = torch.where(flip[:, None], size - 1 - out, out)[:, :, None]
    center = _pixelwise(start) + (out + 0.5) * scale
    pixel = torch.arange(pixels, device=start.device, dtype=torch.float32)
    x = ((pixel + 0.5 - center) / scale.clamp(min=1)).abs()
    if cubic:  # Keys' kernel with a = -1/2
        w = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2) * (x < 2)
    else:
        w = (1 - x).clamp(min=0)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    w = w * inside[:, None]
    return w / w.sum(-1, keepdim=True)


def _gather(image_BHWC: Tensor, draw: Draws, size: int, cubic: bool) -> Planes:
    """The same, bilinear and only to enlarge, from the four pixels around each point: far less work for a CPU."""
    top, left, h, w = draw.box.float().unbind(1)
    out = (torch.arange(size, device=top.device) + 0.5).expand(len(top), -1)
    y0, y1, v = (t[:, :, None] for t in _neighbours(top, h, out))
    x0, x1, u = (t[:, None, :] for t in _neighbours(left, w, torch.where(draw.flip[:, None], size - out, out)))
    b = _pixelwise(torch.arange(len(top), device=top.device))
    planes = []
    for c in range(image_BHWC.shape[3]):
        corners = (image_BHWC[b, y, x, c].float() for y in (y0, y1) for x in (x0, x1))
        top_left, top_right, bottom_left, bottom_right = corners
        upper, lower = top_left + u * (top_right - top_left), bottom_left + u * (bottom_right - bottom_left)
        planes.append(upper + v * (lower - upper))
    return planes


def _neighbours(start: Tensor, length: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after points `out` (B, S) of the view, and how far along; none outside of the box."""
    first, last, scale = start[:, None], (start + length - 1)[:, None], (length / out.shape[1])[:, None]
    at = torch.minimum(torch.maximum(first + out * scale - 0.5, first), last)
    before = at.floor()
    return before.long(), torch.minimum(before + 1, last).long(), at - before


# ---- colour


def _jitter(planes: Planes, draw: Draws) -> Planes:
    """Brightness, contrast, saturation and hue in the order of each sample."""
    factor = draw.jitter.gather(1, draw.order.long())
    saturation, contrast = draw.order == SATURATION, draw.order == CONTRAST
    if len(planes) != 3:
        factor = torch.where(saturation, 1.0, factor)
    hue_at = (draw.order == HUE).byte().argmax(1, keepdim=True)
    place = torch.arange(4, device=draw.order.device)
    before, after = torch.where(place < hue_at, factor, 1.0), torch.where(place > hue_at, factor, 1.0)
    for k in (0, 1, 2):
        planes = _blend(planes, before[:, k], saturation[:, k], contrast[:, k])
    if len(planes) == 3:
        planes = _turn_hue(planes, _pixelwise(draw.jitter[:, HUE]))
    for k in (1, 2, 3):
        planes = _blend(planes, after[:, k], saturation[:, k], contrast[:, k])
    return planes


def _blend(planes: Planes, factor: Tensor, saturation: Tensor, contrast: Tensor) -> Planes:
    """One round of the formula above; `factor`, `saturation` and `contrast` (B,)."""
    gray = _gray(planes) if len(planes) == 3 else torch.stack(planes).mean(0)
    toward = gray * _pixelwise(saturation) + gray.mean((1, 2), keepdim=True) * _pixelwise(contrast)
    toward = toward * _pixelwise(1 - factor)
    return [(x * _pixelwise(factor) + toward).clamp(0, 255) for x in planes]


def _gray(planes: Planes) -> Tensor:
    """Luma of RGB with the weights of ITU-R BT.601."""
    r, g, b = planes
    return 0.2989 * r + 0.587 * g + 0.114 * b


def _turn_hue(planes: Planes, shift: Tensor) -> Planes:
    """Turn the hue of HSV by `shift` turns in [-1/2, 1/2]; hue counts sixths of a turn from red."""
    r, g, b = planes
    high, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    chroma = high - low
    inverse = 1 / chroma.clamp(min=1e-12)  # without chroma the numerators are 0 as well
    from_green, from_blue = (b - r) * inverse + 2, (r - g) * inverse + 4
    hue = torch.where(high == r, (g - b) * inverse, torch.where(high == g, from_green, from_blue)) + 6 * shift
    hue = hue - 6 * torch.floor(hue / 6)
    shares = ((hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs())
    return [low + chroma * share.clamp(0, 1) for share in shares]


# ---- blur


def _blur(planes: Planes, sigma: Tensor) -> Planes:
    """Gaussian blur as two products with banded matrices (B, S, S); samples with sigma 0 stay as they are."""
    size = planes[0].shape[-1]
    on = _pixelwise(sigma > 0)
    spread = torch.where(on, _pixelwise(sigma), 1.0)
    radius = (3 * spread).ceil().clamp(max=size - 1)

    def weight(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / spread) ** 2) * (distance.abs() <= radius)

    column = torch.arange(size, device=sigma.device)
    row = column[:, None]
    # a column is met directly and once more in the reflection at either border, the border itself excepted
    matrix = weight(row - column) + weight(row + column) * (column > 0)
    matrix = matrix + weight(row + column - 2 * (size - 1)) * (column < size - 1)
    matrix = matrix / matrix.sum(-1, keepdim=True)
    return [torch.where(on, matrix @ x @ matrix.mT, x) for x in planes]
