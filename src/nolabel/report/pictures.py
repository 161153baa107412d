"""Pictures for people: contact sheets, thumbnail maps, attention, and patch features as colour."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray
"""uint8 (H, W), (H, W, 1), (H, W, 3) or, with transparency, (H, W, 4)"""


@dataclass(frozen=True)
class Gallery:
    """Named rows of pictures, e.g. input, masked, reconstruction: one column a sample."""

    title: str
    caption: str = ""
    rows: list[tuple[str, list[Pixels]]] = field(default_factory=list)


def picture(image: Pixels) -> Image.Image:
    """An array as an RGB or RGBA picture. Raises ValueError for anything that is not uint8 of 1, 3 or 4 channels."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, C), not {image.dtype} {image.shape}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels, not {image.shape[2]}")
    return Image.fromarray(np.ascontiguousarray(image))


def thumbnail(image: Pixels, size: int) -> Image.Image:
    """At most `size` pixels on the longer side; small pictures stay as they are."""
    small = picture(image)
    small.thumbnail((size, size), Image.Resampling.BOX if max(small.size) < 2 * size else Image.Resampling.LANCZOS)
    return small


def data_uri(image: Pixels | Image.Image, limit: int = 12_000) -> str:
    """A picture as a data URI: lossless PNG where that fits `limit` bytes, else WebP at the best quality that does."""
    shown = image if isinstance(image, Image.Image) else picture(image)
    body, kind = _encode(shown, "PNG", optimize=True), "png"
    for quality in (90, 80, 65, 45, 25):
        if len(body) <= limit:
            break
        body, kind = _encode(shown, "WEBP", quality=quality, method=4), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(body).decode()}"


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def grid(images: Sequence[Pixels], columns: int | None = None, gap: int = 2) -> bytes:
    """A contact sheet as PNG, row by row, in cells of the largest picture. Raises ValueError without pictures."""
    if not len(images):
        raise ValueError("a contact sheet needs at least one picture")
    shown = [picture(i) for i in images]
    columns = columns or math.ceil(math.sqrt(len(shown)))
    width, height = (max(i.size[axis] for i in shown) + gap for axis in (0, 1))
    sheet = Image.new("RGBA", (columns * width - gap, math.ceil(len(shown) / columns) * height - gap))
    for k, one in enumerate(shown):
        sheet.paste(one, (k % columns * width, k // columns * height))
    return _encode(sheet, "PNG", optimize=True)


def thumbnail_map(
    images: Sequence[Pixels], xy: np.ndarray, colours: Sequence[str | None] | None = None, columns: int | None = None
) -> tuple[Image.Image, int]:
    """Thumbnails at their places xy (n, 2) in [0, 1] without overlap, framed in `colours`; and how many found room.

    A thumbnail goes to its cell of a 3:2 grid or to a free one beside it; the rest would cover others and is left out.
    """
    columns = columns or min(40, max(6, round(math.sqrt(2.7 * len(images)))))
    rows = math.ceil(columns * 2 / 3)
    cell = 64 if columns <= 20 else 40
    sheet = Image.new("RGBA", (columns * cell, rows * cell))
    near = sorted(((dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)), key=lambda d: d[0] ** 2 + d[1] ** 2)
    used: set[tuple[int, int]] = set()
    for k, (x, y) in enumerate(xy.tolist()):
        column, row = min(int(x * columns), columns - 1), min(int(y * rows), rows - 1)
        around = ((column + dx, row + dy) for dx, dy in near)
        spot = next((s for s in around if s not in used and 0 <= s[0] < columns and 0 <= s[1] < rows), None)
        if spot is None:
            continue
        used.add(spot)
        colour = colours[k] if colours is not None else None
        frame = 2 if colour else 0
        inner = cell - 2 - 2 * frame
        tile = Image.new("RGBA", (cell - 2, cell - 2), colour or (0, 0, 0, 0))
        tile.paste(picture(images[k]).resize((inner, inner), Image.Resampling.LANCZOS), (frame, frame))
        sheet.paste(tile, (spot[0] * cell + 1, spot[1] * cell + 1))
    return sheet, len(used)


def attention_overlay(image: Pixels, attention: Any, opacity: float = 0.6) -> np.ndarray:
    """A map (h, w) of any scale over a picture (H, W, C): bright where it is high -> uint8 (H, W, 3)."""
    import matplotlib as mpl

    base = picture(image).convert("RGB")
    heat = _unit(_array(attention))
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(base.size, Image.Resampling.BICUBIC))
    smooth = np.clip(smooth, 0, 1)[..., None]
    colour = mpl.colormaps["inferno"](smooth[..., 0])[..., :3] * 255
    weight = opacity * (0.35 + 0.65 * smooth)  # cold places keep more of the picture
    return np.round((1 - weight) * np.asarray(base) + weight * colour).astype(np.uint8)


def pca_colours(tokens_BLD: Any, grid: tuple[int, int]) -> np.ndarray:
    """Patch tokens as colour: the first three principal components, shared by the batch, are red, green and blue.

    tokens (B, L, D) without the summary token, L = h * w -> uint8 (B, h, w, 3). Alike colours are alike features, also
    across pictures. Raises ValueError where the tokens do not fill the grid.
    """
    x_BLD = _array(tokens_BLD)
    if x_BLD.ndim != 3 or x_BLD.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"tokens {x_BLD.shape} do not fill a grid of {grid[0]} x {grid[1]}: drop the summary token")
    x_ND = np.nan_to_num(x_BLD.reshape(-1, x_BLD.shape[2]))
    x_ND = x_ND - x_ND.mean(0)
    axes_DK = np.linalg.eigh(x_ND.T @ x_ND)[1][:, ::-1][:, :3]
    axes_DK = axes_DK * np.where(axes_DK[np.abs(axes_DK).argmax(0), range(axes_DK.shape[1])] < 0, -1, 1)
    colours_NK = np.full((len(x_ND), 3), 0.5)
    for k, values in enumerate((x_ND @ axes_DK).T):
        colours_NK[:, k] = _unit(values, 0.01)
    return np.round(255 * colours_NK).astype(np.uint8).reshape(len(x_BLD), *grid, 3)


def _array(x: Any) -> np.ndarray:
    """A tensor of any device and type, or an array, as float64."""
    if hasattr(x, "detach"):
        x = x.detach().float().cpu().numpy()
    return np.asarray(x, np.float64)


def _unit(x: np.ndarray, tail: float = 0.0) -> np.ndarray:
    """Stretched to [0, 1] between the quantiles `tail` and 1 - `tail`; a constant becomes 0.5."""
    x = np.nan_to_num(x)
    low, high = np.quantile(x, (tail, 1 - tail))
    return np.clip((x - low) / (high - low), 0, 1) if high > low else np.full_like(x, 0.5)
