"""Samples of every kind as pictures: frames in a row, sound as a spectrogram, clouds from the side, text as text."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nolabel.core import Batch
from nolabel.core.types import END, MASK, PAD, START
from nolabel.report.pictures import Pixels
from nolabel.views import to_uint8

SIDE = 96
"""of the pictures of what is no picture, in pixels"""
FRAMES = 8
"""most frames in a row"""


def sample_pictures(batch: Batch, reads: Sequence[str], data: Any) -> np.ndarray:
    """One square picture for each stored sample, of the column that is read first: uint8 (N, S, S, C).

    `data` has the `tokenizer` of text.
    """
    name = reads[0]
    x = batch[name]
    match name:
        case "image":
            return x.numpy()  # type: ignore[no-any-return]
        case "video":
            return x[:, x.shape[1] // 2].numpy()  # type: ignore[no-any-return]
        case "audio":
            return np.stack([heat(spectrogram(wave)) for wave in x])
        case "points":
            return np.stack([cloud(one) for one in x])
        case _:
            return np.stack([page(sentence(ids, data.tokenizer)) for ids in x])


def shown_pictures(x: Tensor, views: Any, data: Any) -> list[Pixels]:
    """What `Method.show` or a view made of some samples, one picture each.

    Text is integers (B, L), clouds (B, P, 3), video (B, C, T, H, W), spectrograms (B, 1, M, F) where sound is read, and
    images (B, C, H, W), normalised by the `mean` and `std` of the views.
    """
    x = x.detach().cpu()
    if not x.is_floating_point():
        return [page(sentence(ids, data.tokenizer), 2 * SIDE) for ids in x]
    if x.ndim == 5:
        count = x.shape[2]
        x = x[:, :, torch.linspace(0, count - 1, min(FRAMES, count)).round().long()]
        return shown_pictures(x.transpose(2, 3).flatten(3), views, data)  # side by side
    if x.ndim == 3 and x.shape[2] == 3:
        return [cloud(one) for one in x]
    if x.ndim == 3:
        return [heat(spectrogram(wave)) for wave in x[:, 0]]
    if x.shape[1] == 1 and "audio" in views.reads:
        return [heat(one[0].flip(0).numpy()) for one in x]
    mean, std = getattr(views, "mean", (0.5,)), getattr(views, "std", (0.25,))
    return list(to_uint8(x, mean, std).numpy())


def still(x: Tensor) -> Tensor:
    """The middle frames of clips (B, C, T, H, W) -> (B, C, H, W); anything else as it is."""
    return x[:, :, x.shape[2] // 2] if x.ndim == 5 else x


def spectrogram(wave: Tensor) -> np.ndarray:
    """Log power of a sound (S,), low frequencies at the bottom: (SIDE, SIDE)."""
    x = wave.float() / (32768 if wave.dtype == torch.int16 else 1)
    window = min(512, 2 ** int(np.log2(max(16, len(x) // 4))))
    power = torch.stft(x, window, window // 4, window=torch.hann_window(window), return_complex=True).abs().square()
    small = torch.nn.functional.interpolate((power + 1e-7).log()[None, None], (SIDE, SIDE), mode="bilinear")
    return small[0, 0].flip(0).numpy()  # type: ignore[no-any-return]


def heat(values: np.ndarray) -> np.ndarray:
    """A map of numbers in colour, from its least to its largest: uint8 (H, W, 3)."""
    import matplotlib as mpl

    low, high = np.nanmin(values), np.nanmax(values)
    unit = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9)
    return (255 * mpl.colormaps["magma"](unit)[..., :3]).round().astype(np.uint8)


def cloud(points: Tensor) -> np.ndarray:
    """A cloud (P, 3), y up, seen from the front and a little from above; near points are dark: uint8 (SIDE, SIDE, 3)."""
    xyz = points.float().numpy()
    xyz = xyz - xyz.mean(0)
    xyz /= max(np.abs(xyz).max(), 1e-9) * 1.45
    turn, tilt = 0.6, 0.4
    x, z = xyz[:, 0] * np.cos(turn) + xyz[:, 2] * np.sin(turn), xyz[:, 2] * np.cos(turn) - xyz[:, 0] * np.sin(turn)
    y, z = xyz[:, 1] * np.cos(tilt) - z * np.sin(tilt), xyz[:, 1] * np.sin(tilt) + z * np.cos(tilt)
    out = np.full((SIDE, SIDE, 3), 255, np.uint8)
    order = np.argsort(z)
    column, row = (((1 + u) * (SIDE - 1) / 2).round().astype(int).clip(0, SIDE - 1)[order] for u in (x, -y))
    shade = (150 - 130 * (z[order] - z.min()) / max(np.ptp(z), 1e-9)).astype(np.uint8)
    out[row, column] = np.stack((shade, shade, np.minimum(shade + 60, 255)), 1)
    return out


def sentence(ids: Tensor, tokenizer: Any) -> str:
    """Tokens as words; masked ones as a bar."""
    known = [i for i in ids.tolist() if i not in (PAD, START, END)]
    if tokenizer is None:
        return " ".join(map(str, known))
    parts: list[str] = []
    run: list[int] = []
    for i in known:
        if i == MASK:
            parts += [tokenizer.decode(run)] if run else []
            parts.append("▁▁▁")
            run = []
        else:
            run.append(i)
    return " ".join(parts + ([tokenizer.decode(run)] if run else []))


def page(text: str, width: int = SIDE) -> np.ndarray:
    """Text in black on white: uint8 (SIDE, width, 3)."""
    sheet = Image.new("RGB", (width, SIDE), "white")
    font = ImageFont.load_default(size=11)
    lines = textwrap.wrap(text, width // 6)[: SIDE // 13]
    ImageDraw.Draw(sheet).multiline_text((3, 2), "\n".join(lines), "black", font, spacing=2)
    return np.asarray(sheet)
