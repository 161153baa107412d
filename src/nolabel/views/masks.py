"""Masks of tokens. True is hidden, everywhere.

Legend: B samples, L tokens, K of them kept and M hidden, D channels, h x w grid of tokens. Where every sample hides
equally many tokens a mask is a pair of index tensors, `keep_BK` and `hide_BM`, both ascending; otherwise it is bool.
"""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.types import MASK, PAD, UNKNOWN

Grid = tuple[int, int]
Indices = tuple[Tensor, Tensor]


def random_mask(
    batch: int,
    length: int,
    ratio: float,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Indices:
    """Hide tokens uniformly without replacement, apart for each sample (MAE, He et al. 2022).

    Keeps round(length * (1 - ratio)) tokens, halves to even, in decimal arithmetic: int(100 * (1 - 0.9)) would be 9.
    Returns keep (B, K) and hide (B, M).
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], not {ratio}")
    kept = round(length * (1 - Fraction(str(ratio))))
    order = _noise((batch, length), rng, device).argsort(1)
    return order[:, :kept].sort(1).values, order[:, kept:].sort(1).values


def cell_mask(
    batch: int,
    grid: Grid,
    cell: int,
    ratio: float,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide square cells of `cell` x `cell` tokens (SimMIM, Xie et al. 2022) -> bool (B, h, w).

    Every sample hides exactly ceil(ratio * cells) of them. Raises ValueError where the cells do not fill the grid.
    """
    rows, columns = grid[0] // cell, grid[1] // cell
    if (rows * cell, columns * cell) != tuple(grid):
        raise ValueError(f"cells of {cell} x {cell} tokens do not fill a grid of {grid[0]} x {grid[1]}")
    hidden = math.ceil(rows * columns * Fraction(str(ratio)))
    rank = _noise((batch, rows * columns), rng, device).argsort(1).argsort(1)
    mask = (rank < hidden).view(batch, rows, columns)
    return mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def block_mask(
    batch: int,
    grid: Grid,
    target: int | Tensor,
    min_block: int = 16,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    max_block: int | None = None,
    tries: int = 10,
    exact: bool = False,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide rectangles until `target` tokens are hidden (BEiT, Bao et al. 2022; iBOT; DINOv2) -> bool (B, h, w).

    A rectangle's area is uniform between `min_block` and what is still missing (at most `max_block`), its height / width
    log-uniform in `aspect`. One that adds nothing or too much is drawn again, up to `tries` times in a row, so a sample
    may end below its target, never above; `exact` then tops it up, beside the blocks first. `target` may be a tensor
    (B,), one number a sample. All samples are made at once, each from 12 * `tries` rectangles at most.
    """
    device = torch.device(device) if device is not None else (rng.device if rng else torch.device("cpu"))
    rows, columns = grid
    y, x = torch.arange(rows, device=device)[:, None], torch.arange(columns, device=device)
    mask = torch.zeros(batch, rows, columns, dtype=torch.bool, device=device)
    missing = target if isinstance(target, Tensor) else torch.full((batch,), target, device=device)
    missing = missing.clamp(max=rows * columns)
    failures = torch.zeros_like(missing)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for _ in range(12 * tries):
        active = (missing > 0) & (failures < tries)
        if device.type == "cpu" and not active.any():
            break  # elsewhere looking would mean waiting for the device
        u_area, u_shape, u_y, u_x = _noise((4, batch), rng, device)
        most = missing if max_block is None else missing.clamp(max=max_block)
        area = min_block + u_area * (most - min_block)
        shape = torch.exp(low + u_shape * (high - low))
        h, w = (area * shape).sqrt().round(), (area / shape).sqrt().round()
        top, left = (u_y * (rows - h + 1)).floor(), (u_x * (columns - w + 1)).floor()
        inside_y = (y >= top[:, None, None]) & (y < (top + h)[:, None, None])
        inside_x = (x >= left[:, None, None]) & (x < (left + w)[:, None, None])
        new = inside_y & inside_x & ~mask
        added = new.sum((1, 2))
        good = active & (h < rows) & (w < columns) & (added > 0) & (added <= most)
        mask |= new & good[:, None, None]
        missing = missing - torch.where(good, added, 0)
        failures = torch.where(good, 0, failures + 1)
    return _top_up(mask, missing, rng) if exact else mask


def mask_words(
    text_BL: Tensor,
    vocabulary: int,
    share: float = 0.15,
    mask: float = 0.8,
    swap: float = 0.1,
    rng: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose words to be predicted and hide them (BERT, Devlin et al. 2019, section 3.1 and appendix A.1).

    Of each row's words, special tokens aside, `share` is chosen, at least one. A chosen word becomes MASK with
    probability `mask`, any word of the vocabulary with probability `swap`, and else stays. Returns the text as it is
    shown (B, L), the places of the chosen words (B, M), M = round(share * L), and which of these count (B, M): short
    rows fill fewer than M places.
    """
    device = text_BL.device
    slots = max(1, round(text_BL.shape[1] * Fraction(str(share))))
    word_BL = text_BL > UNKNOWN
    wanted_B = (word_BL.sum(1) * share).round().clamp(1, slots).minimum(word_BL.sum(1))
    hide_BM = (_noise(tuple(text_BL.shape), rng, device) + ~word_BL).argsort(1)[:, :slots]
    real_BM = torch.arange(slots, device=device) < wanted_B[:, None]
    fate_BM, draw_BM = (_noise((len(text_BL), slots), rng, device) for _ in range(2))
    other_BM = UNKNOWN + 1 + (draw_BM * (vocabulary - UNKNOWN - 1)).long()
    word_BM = take(text_BL, hide_BM)
    shown_BM = torch.where(fate_BM < mask, MASK, torch.where(fate_BM < mask + swap, other_BM, word_BM))
    return text_BL.scatter(1, hide_BM, torch.where(real_BM, shown_BM, word_BM)), hide_BM, real_BM


def mask_texts(
    text_BL: Tensor, ratio: float, rng: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hide `ratio` of each text's own tokens, whose number differs (M3AE, Geng et al. 2022); PAD is neither.

    Returns the places kept (B, K) and which of them are tokens (B, K), the places hidden (B, M) and which of them are
    tokens (B, M): K and M are what a full row needs, and shorter ones fill them up with places that do not count.
    """
    count, device = text_BL.shape[1], text_BL.device
    slots = round(count * Fraction(str(ratio)))
    real_BL = text_BL != PAD
    length_B1 = real_BL.sum(1, keepdim=True)
    kept_B1 = length_B1 - (length_B1 * ratio).round().long().clamp(max=slots)
    order_BL = (_noise(tuple(text_BL.shape), rng, device) + ~real_BL).argsort(1)
    keep_BK = order_BL[:, : count - slots]
    seen_BK = torch.arange(count - slots, device=device) < kept_B1
    at_BM = kept_B1 + torch.arange(slots, device=device)
    return keep_BK, seen_BK, order_BL.gather(1, at_BM.clamp(max=count - 1)), at_BM < length_B1


def _top_up(mask_Bhw: Tensor, missing_B: Tensor, rng: torch.Generator | None) -> Tensor:
    """Hide `missing` more tokens of each sample, in random order, neighbours of hidden ones before all others."""
    grown = F.max_pool2d(mask_Bhw[:, None].float(), 3, 1, 1)[:, 0]
    noise = _noise(tuple(mask_Bhw.shape), rng, mask_Bhw.device)
    score = torch.where(mask_Bhw, -1.0, grown + noise).flatten(1)
    rank = score.argsort(1, descending=True).argsort(1).view_as(mask_Bhw)
    return mask_Bhw | (rank < missing_B[:, None, None])


def mask_indices(mask_BL: Tensor, hidden: int) -> Indices:
    """A bool mask (B, L) or (B, h, w) with exactly `hidden` True in each row -> keep (B, K), hide (B, M)."""
    order = mask_BL.flatten(1).byte().argsort(dim=1, stable=True)
    kept = order.shape[1] - hidden
    return order[:, :kept], order[:, kept:]


def index_mask(hide_BM: Tensor, length: int) -> Tensor:
    """Hidden indices (B, M) -> bool (B, L)."""
    mask = torch.zeros(len(hide_BM), length, dtype=torch.bool, device=hide_BM.device)
    return mask.scatter(1, hide_BM, True)


def take(x_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """Tokens by number: (B, L, ...) -> (B, K, ...)."""
    index = index_BK.reshape(*index_BK.shape, *(1,) * (x_BLD.ndim - 2))
    return torch.take_along_dim(x_BLD, index, 1)


def restore(x_BKD: Tensor, keep_BK: Tensor, hide_BM: Tensor, fill_D: Tensor) -> Tensor:
    """Kept tokens (B, K, D) back at their places and `fill` (anything that expands to (B, M, D)) at the hidden ones."""
    fill = fill_D.to(x_BKD.dtype).expand(*hide_BM.shape, x_BKD.shape[2])
    places = torch.cat((keep_BK, hide_BM), 1).argsort(1)
    return take(torch.cat((x_BKD, fill), 1), places)


def _noise(shape: tuple[int, ...], rng: torch.Generator | None, device: torch.device | str | None) -> Tensor:
    """Uniforms made where the generator lives, then moved: one generator gives the same masks on every device."""
    return torch.rand(shape, generator=rng, device=rng.device if rng else device).to(device, non_blocking=True)
