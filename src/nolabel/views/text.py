"""Text views: windows of token ids. Masking words is `masks.mask_words`.

Shapes: B rows, L tokens of a stored row, W tokens of a view. A row is its tokens and then only PAD.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.types import END, PAD, START, Batch


@dataclass(frozen=True)
class OneText:
    """At most `length` tokens of each row, under `text`."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    length: int = 512
    """W, tokens of a view; shorter rows stay as they are"""
    crop: bool = True
    """longer rows give a random window; otherwise their beginning, which ends with END where the row did"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`text` int64 (B, L) -> `text` (B, min(W, L))."""
        text_BL = batch["text"]
        return {**batch, "text": window(text_BL, self.length, rng) if self.crop else beginning(text_BL, self.length)}

    def plain(self, batch: Batch) -> Batch:
        """`text` int64 (B, L) -> the beginning of each row, `text` (B, min(W, L))."""
        return {"text": beginning(batch["text"], self.length)}


@dataclass(frozen=True)
class Passages:
    """`count` neighbouring passages of `length` tokens of each row, in their order, under `text`.

    They are cuts of running text: none begins with START, and END stands only where the text ends. Short texts leave the last
    passages empty, which is all PAD.
    """

    reads: ClassVar[tuple[str, ...]] = ("text",)
    count: int = 3
    length: int = 32
    """W, tokens of a passage, fewer where the rows are too short"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`text` int64 (B, L) -> `text` (B, count, min(W, L // count)), a random window of each row, cut evenly."""
        text_BL = running(batch["text"])
        each = min(self.length, text_BL.shape[1] // self.count)
        return {**batch, "text": window(text_BL, self.count * each, rng).unflatten(1, (self.count, each))}

    def plain(self, batch: Batch) -> Batch:
        """`text` int64 (B, L) -> the whole text, all but START, `text` (B, L)."""
        return {"text": running(batch["text"])}


def running(text_BL: Tensor) -> Tensor:
    """Texts (B, L) without the START in front of them; what follows moves up and PAD ends them."""
    rest_BL = F.pad(text_BL[:, 1:], (0, 1), value=PAD)
    return torch.where(text_BL[:, :1] == START, rest_BL, text_BL)


def window(text_BL: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """A random run of `length` tokens of each row; all runs without PAD are equally likely, if there are any."""
    if text_BL.shape[1] <= length:
        return text_BL
    room_B = ((text_BL != PAD).sum(1) - length).clamp(min=0)
    u_B = torch.rand(len(text_BL), generator=rng, device=rng.device).to(text_BL.device, non_blocking=True)
    start_B = (u_B * (room_B + 1)).long()
    return text_BL.gather(1, start_B[:, None] + torch.arange(length, device=text_BL.device))


def beginning(text_BL: Tensor, length: int) -> Tensor:
    """The first `length` tokens; a row that ended with END and is cut ends with END again, as CLIP cuts captions."""
    if text_BL.shape[1] <= length:
        return text_BL
    short_BW = text_BL[:, :length].clone()
    cut_B = (text_BL[:, length:] == END).any(1)
    short_BW[:, -1] = torch.where(cut_B, END, short_BW[:, -1])
    return short_BW
