"""The form in which samples are stored: one size, one rate, one length for a whole data set."""

from dataclasses import dataclass, fields, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from nolabel.core import UserError

STORED: dict[str, tuple[torch.dtype, int, str]] = {
    "image": (torch.uint8, 4, "(N, H, W, C)"),
    "video": (torch.uint8, 5, "(N, T, H, W, C)"),
    "audio": (torch.int16, 2, "(N, S)"),
    "points": (torch.float32, 3, "(N, P, 3)"),
    "text": (torch.int64, 2, "(N, L)"),
}
"""type, number of axes and shape of the stored samples of each modality"""


def as_stored(name: str, array: Any) -> Tensor:
    """An array of samples as a tensor. Raises UserError where it has not the form of its modality."""
    x = torch.as_tensor(array)
    dtype, axes, shape = STORED[name]
    if x.dtype != dtype or x.ndim != axes:
        raise UserError(f"{name} must be {str(dtype)[6:]} {shape}, this is {str(x.dtype)[6:]} {tuple(x.shape)}")
    return x


_LEAST = {"size": 1, "side": 1, "frames": 1, "fps": 1e-6, "sample_rate": 10, "seconds": 0.001, "points": 1, "words": 3,
          "vocabulary": 1}  # fmt: skip
"""of each number in a form; three words are START, one token and END"""


@dataclass(frozen=True)
class Form:
    """What is left at None is chosen by the data when they are opened; `Data.form` has no None where it matters."""

    size: int | None = None
    """pixels a side that the encoder will see; images and frames are kept at this side or somewhat larger"""
    side: int | None = None
    """pixels a side that are kept; by default see `size.stored_size`"""
    channels: int = 3
    """3 for RGB, 1 for grey"""
    frames: int | None = None
    """T, frames of a stored clip; 16, or what the views want"""
    fps: float | None = None
    """frames a second of a stored clip; 8, and 15 in the toy world"""
    sample_rate: int | None = None
    """samples a second of stored sound; the commonest of the files, at most 16,000, and 8,000 in the toy world"""
    seconds: float | None = None
    """of stored sound: that of the clip where there is video, else what holds nine of ten files, at most 5 s"""
    points: int | None = None
    """P, of a stored cloud; that of the arrays, at most 1,024, or what the views want"""
    words: int | None = None
    """L, tokens of a stored text, START and END included; what holds nine of ten texts, at most 128"""
    vocabulary: int | None = None
    """most different tokens of a tokenizer trained on the data; 4,096"""
    tokenizer: str | None = None
    """a tokenizer.json to use instead of training one"""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"channels={self.channels!r}: channels are 3 for RGB or 1 for grey")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None:
                continue
            whole = name not in ("fps", "seconds")
            number = isinstance(value, Integral) or (not whole and isinstance(value, Real) and isfinite(value))
            if not number or isinstance(value, bool):
                raise UserError(f"{name}={value!r}: it must be a {'whole ' if whole else ''}number")
            if value < least:
                raise UserError(f"{name}={value!r}: it must be at least {least}")

    def given(self) -> dict[str, Any]:
        """What is not None."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def default(self, **values: Any) -> "Form":
        """With `values` for what is None so far."""
        return replace(self, **{k: v for k, v in values.items() if getattr(self, k) is None})
