"""Masks: exact counts, uniform marginals, an independent draw for each sample; and tokens there and back."""

import math
import random

import pytest
import torch

from nolabel.views import block_mask, cell_mask, index_mask, mask_indices, random_mask, restore, take


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- random


@pytest.mark.parametrize(
    ("length", "ratio", "kept"),
    [
        (64, 0.75, 16),
        (196, 0.75, 49),
        (100, 0.9, 10),  # int(100 * (1 - 0.9)) is 9
        (64, 0.6, 26),
        (1568, 0.9, 157),
        (35, 0.9, 4),  # 3.5 to even, though 35 * (1 - 0.9) is below 3.5 in binary
        (10, 0.75, 2),  # 2.5 to even
        (10, 0.0, 10),
        (10, 1.0, 0),
    ],
)
def test_random_mask_counts(length, ratio, kept):
    keep, hide = random_mask(3, length, ratio, rng())
    assert keep.shape == (3, kept)
    assert hide.shape == (3, length - kept)
    both = torch.cat((keep, hide), 1).sort(1).values
    assert torch.equal(both, torch.arange(length).expand(3, -1))
    assert torch.equal(keep, keep.sort(1).values)
    assert torch.equal(hide, hide.sort(1).values)


def test_random_mask_is_uniform_and_apart():
    _, hide = random_mask(4000, 16, 0.75, rng())
    mask = index_mask(hide, 16).float()
    assert (mask.mean(0) - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 4000)
    both = (mask[:, :1] * mask[:, 1:]).mean(0)  # without replacement: 12/16 * 11/15
    assert (both - 0.55).abs().max() < 5 * math.sqrt(0.55 * 0.45 / 4000)
    assert len(mask[:64].unique(dim=0)) > 55  # of 1820 masks


@pytest.mark.parametrize("make", [lambda g: random_mask(4, 64, 0.75, g)[1], lambda g: block_mask(4, (8, 8), 25, rng=g)])
def test_same_generator_same_mask(make):
    assert torch.equal(make(rng(1)), make(rng(1)))
    assert not torch.equal(make(rng(1)), make(rng(2)))


def test_ratio_outside_is_refused():
    with pytest.raises(ValueError, match="ratio"):
        random_mask(2, 16, 1.5)


# ---- cells


@pytest.mark.parametrize(("grid", "cell", "hidden"), [((6, 6), 1, 22), ((8, 8), 2, 10), ((8, 12), 4, 4)])
def test_cell_mask(grid, cell, hidden):
    mask = cell_mask(500, grid, cell, 0.6, rng())
    rows, columns = grid[0] // cell, grid[1] // cell
    cells = mask.view(500, rows, cell, columns, cell).transpose(2, 3).flatten(3)
    assert torch.equal(cells.all(-1), cells.any(-1))
    assert (cells.any(-1).sum((1, 2)) == hidden).all()
    share = cells.any(-1).float().mean(0)
    assert (share - hidden / (rows * columns)).abs().max() < 0.11


def test_cells_must_fill_the_grid():
    with pytest.raises(ValueError, match="fill"):
        cell_mask(2, (7, 8), 2, 0.6)


# ---- blocks


def beit(rows, columns, target, min_block):
    """BEiT's generator as its paper's algorithm 1 and code have it, with Python's random numbers."""
    mask = [[False] * columns for _ in range(rows)]
    hidden = 0
    while hidden < target:
        added = 0
        for _ in range(10):
            area = random.uniform(min_block, target - hidden)
            aspect = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if w >= columns or h >= rows:
                continue
            top, left = random.randint(0, rows - h), random.randint(0, columns - w)
            cells = [(y, x) for y in range(top, top + h) for x in range(left, left + w) if not mask[y][x]]
            if 0 < len(cells) <= target - hidden:
                for y, x in cells:
                    mask[y][x] = True
                added = len(cells)
                break
        if not added:
            break
        hidden += added
    return mask


def test_block_mask_is_beits():
    n = 1500
    random.seed(0)
    theirs = torch.tensor([beit(14, 14, 75, 16) for _ in range(n)])
    ours = block_mask(n, (14, 14), 75, rng=rng())
    a, b = ours.sum((1, 2)).float(), theirs.sum((1, 2)).float()
    assert a.max() == 75
    assert a.min() >= 60
    assert a.mean() == pytest.approx(b.mean().item(), abs=0.15)
    assert (a == 75).float().mean() == pytest.approx((b == 75).float().mean().item(), abs=0.06)
    share, their_share = ours.float().mean(0), theirs.float().mean(0)
    assert (share - their_share).abs().max() < 0.09  # five standard errors of a difference

    def edges(mask):  # neighbours that differ: how blocky the masks are
        mask = mask.float()
        return (mask.diff(dim=1).abs().sum((1, 2)) + mask.diff(dim=2).abs().sum((1, 2))).mean().item()

    assert edges(ours) == pytest.approx(edges(theirs), rel=0.03)


def test_one_block_is_a_rectangle():
    masks = block_mask(200, (14, 14), 30, min_block=30, rng=rng())
    rectangles = 0
    for mask in masks:
        h, w = mask.any(1).sum(), mask.any(0).sum()
        rectangles += bool(mask.sum() == h * w)
        assert mask.sum() <= 30
    assert rectangles > 60


@pytest.mark.parametrize("min_block", [2, 4, 16])
def test_exact_blocks_have_equal_counts(min_block):
    mask = block_mask(300, (8, 8), 25, min_block=min_block, exact=True, rng=rng())
    assert (mask.sum((1, 2)) == 25).all()
    keep, hide = mask_indices(mask, 25)
    assert hide.shape == (300, 25)
    assert torch.equal(index_mask(hide, 64), mask.flatten(1))
    assert torch.equal(torch.cat((keep, hide), 1).sort(1).values, torch.arange(64).expand(300, -1))


def test_a_target_for_each_sample():
    target = torch.tensor([0, 10, 30, 64])
    mask = block_mask(4, (8, 8), target, min_block=4, exact=True, rng=rng())
    assert torch.equal(mask.sum((1, 2)), target)


def test_blocks_stay_small():
    mask = block_mask(200, (14, 14), 12, min_block=1, max_block=1, rng=rng())
    assert (mask.sum((1, 2)) <= 12).all()
    assert mask.sum((1, 2)).float().mean() > 11


# ---- tokens


@pytest.mark.parametrize("shape", [(), (5,), (5, 2)])
def test_take(shape):
    x = torch.randn(3, 10, *shape)
    index = torch.tensor([[0, 9], [4, 4], [3, 1]])
    expected = torch.stack([x[b, index[b]] for b in range(3)])
    assert torch.equal(take(x, index), expected)


def test_restore_undoes_take():
    x = torch.randn(4, 20, 6)
    keep, hide = random_mask(4, 20, 0.6, rng())
    fill = torch.randn(6, requires_grad=True)
    back = restore(take(x, keep), keep, hide, fill)
    mask = index_mask(hide, 20)
    assert torch.equal(back[~mask], x[~mask])
    assert torch.equal(back[mask], fill.expand(4 * 12, 6))
    back.sum().backward()
    assert torch.equal(fill.grad, torch.full((6,), 48.0))
