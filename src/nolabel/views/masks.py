"""Masks of tokens. True is hidden, everywhere.

Legend: B samples, L tokens, K of them kept and M hidden, D channels, h x w grid of tokens. Where every sample hides
equally many tokens a mask is a pair of index tensors, `keep_BK` and `hide_BM`, both ascending; otherwise it is bool.
"""

import math
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.constant import constant
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


def tube_mask(
    batch: int,
    grid: tuple[int, ...],
    ratio: float,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Indices:
    """Hide the same random places at all times (VideoMAE, Tong et al. 2022), of a grid (times, h, w).

    As `random_mask` within one time. Returns keep (B, K) and hide (B, M) as numbers of tokens, times slowest.
    """
    places = math.prod(grid[1:])
    first = places * torch.arange(grid[0], device=device)[:, None]
    keep, hide = random_mask(batch, places, ratio, rng, device)
    return (keep[:, None] + first).flatten(1), (hide[:, None] + first).flatten(1)


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
        if device.type == "cpu" and torch.equal(active, torch.zeros_like(active)):
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


def dirichlet_mask(
    batch: int,
    lengths: tuple[int, ...],
    kept: int,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Indices:
    """Keep `kept` tokens of several layers with `lengths` tokens (MultiMAE, Bachmann et al. 2022) -> keep, hide.

    The layers' shares of them are uniform on the simplex (Dirichlet with alpha 1) for each sample; whole numbers follow
    by Webster's apportionment: each layer keeps round(c * share) of its tokens, c such that the sum is right. Tokens are
    numbered through all layers.
    """
    share_BT = -_noise((batch, len(lengths)), rng, device).clamp(1e-6, 1 - 1e-6).log()
    cost = [
        (_noise((batch, n), rng, device).argsort(1).argsort(1) + 0.5) / share_BT[:, i, None]
        for i, n in enumerate(lengths)
    ]
    order_BL = torch.cat(cost, 1).argsort(1)
    return order_BL[:, :kept].sort(1).values, order_BL[:, kept:].sort(1).values


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


def choice_block_mask(
    batch: int,
    grid: Grid,
    means: tuple[float, ...] = (0.0, 0.3),
    spreads: tuple[float, ...] = (0.0, 0.2),
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Blocks over a share drawn for each sample: one of `means` +- its spread (iBOT, Zhou et al. 2022) -> bool (B, h, w).

    The smallest block has a third of the shorter side squared, so a small share may end without any block.
    """
    device = torch.device(device) if device is not None else (rng.device if rng else torch.device("cpu"))
    u_which, u_share = _noise((batch, 2), rng, device).unbind(1)
    which = (u_which * len(means)).long()
    mean, spread = (constant(x, device)[which] for x in (means, spreads))
    target = ((mean + (2 * u_share - 1) * spread) * math.prod(grid)).long()
    return block_mask(batch, grid, target, min_block=(min(grid) // 3) ** 2, rng=rng, device=device)


def stratified_block_mask(
    batch: int,
    grid: Grid,
    share: float = 0.5,
    low: float = 0.1,
    high: float = 0.5,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Blocks on exactly int(batch * share) samples (DINOv2, Oquab et al. 2024) -> bool (B, h, w), in random order.

    Their hidden shares are stratified: one from each of as many equal parts of [low, high].
    """
    device = torch.device(device) if device is not None else (rng.device if rng else torch.device("cpu"))
    masked = int(batch * share)
    stratum = torch.arange(batch, device=device)
    u_order, u_share = _noise((batch, 2), rng, device).unbind(1)
    hidden = low + (high - low) * (stratum + u_share) / max(1, masked)
    target = torch.where(stratum < masked, hidden * math.prod(grid), 0.0).long()
    return block_mask(batch, grid, target[u_order.argsort()], min_block=4, rng=rng, device=device)


def hidden_first(mask_BL: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Numbers of the hidden tokens of a mask with unlike counts, filled up with visible ones to `most` (B, M).

    Beside them the mask at these tokens (B, M): False for what fills up. `most` or more hidden tokens are cut off.
    """
    order_BM = mask_BL.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    return order_BM, take(mask_BL, order_BM)


def uniform_mask(
    batch: int,
    grid: Grid,
    sampling: Literal["uniform", "grid", "random"] = "uniform",
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Indices:
    """Keep a quarter of the tokens (UM-MAE, Li et al. 2022): one of every 2 x 2, by chance or always the first -> keep, hide.

    With `random` the quarter is drawn without regard to places. Kept tokens come row by row of the 2 x 2 groups, so that
    they make a map of half the side. Raises ValueError for an odd side.
    """
    rows, columns = grid[0] // 2, grid[1] // 2
    if (2 * rows, 2 * columns) != tuple(grid):
        raise ValueError(f"groups of 2 x 2 tokens do not fill a grid of {grid[0]} x {grid[1]}")
    if sampling == "random":
        return random_mask(batch, 4 * rows * columns, 0.75, rng, device)
    score_BG4 = _noise((batch, rows * columns, 4), rng, device)
    order_BG4 = score_BG4.argsort(2) if sampling == "uniform" else torch.arange(4, device=device).expand_as(score_BG4)
    first_G = torch.arange(rows * columns, device=score_BG4.device)
    corner_G = first_G // columns * 2 * grid[1] + first_G % columns * 2
    place_BG4 = corner_G[:, None] + order_BG4 // 2 * grid[1] + order_BG4 % 2
    return place_BG4[:, :, 0], place_BG4[:, :, 1:].flatten(1).sort(1).values


def multiblock(
    batch: int,
    grid: Grid,
    target: tuple[int, int],
    context: tuple[int, int],
    count: int = 4,
    kept: int | None = None,
    rng: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Blocks to predict and what is seen of one large block (I-JEPA, Assran et al. 2023): (B, K), (B, count, h * w).

    `target` and `context` are (height, width) in tokens, one for the whole batch; their places are uniform, for each
    sample, up to the last row and column. The context lacks all tokens of its targets. K = `kept` of its tokens remain,
    chosen by chance; where it has fewer, some come twice. By default K is `context_length`.
    """
    device = torch.device(device) if device is not None else (rng.device if rng else torch.device("cpu"))
    rows, columns = grid

    def blocks(size: tuple[int, int], number: int) -> Tensor:
        h, w = size
        u_y, u_x = _noise((batch, number, 2), rng, device).unbind(2)
        top, left = (u_y * (rows - h + 1)).long(), (u_x * (columns - w + 1)).long()
        y = top[..., None, None] + torch.arange(h, device=device)[:, None]
        x = left[..., None, None] + torch.arange(w, device=device)
        return (y * columns + x).flatten(2)

    target_BNT = blocks(target, count)
    seen_BL = index_mask(blocks(context, 1)[:, 0], rows * columns) & ~index_mask(target_BNT.flatten(1), rows * columns)
    left_B1 = seen_BL.sum(1, keepdim=True).clamp(min=1)
    order_BL = (seen_BL + _noise((batch, rows * columns), rng, device)).argsort(1, descending=True)
    kept = context_length(grid, target, context, count) if kept is None else kept
    place_BK = torch.arange(kept, device=device) % left_B1
    return take(order_BL, place_BK).sort(1).values, target_BNT


def context_length(grid: Grid, target: tuple[int, int], context: tuple[int, int], count: int = 4) -> int:
    """Context tokens that nearly every sample of `multiblock` has: two thirds of what is left on average."""
    length = math.prod(grid)
    return max(1, int(2 / 3 * math.prod(context) * (1 - math.prod(target) / length) ** count))


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
