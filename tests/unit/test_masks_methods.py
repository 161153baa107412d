"""Masks of single papers: iBOT's shares, DINOv2's strata, UM-MAE's groups, I-JEPA's blocks."""

import pytest
import torch

from nolabel.views import (
    choice_block_mask,
    context_length,
    hidden_first,
    index_mask,
    multiblock,
    stratified_block_mask,
    uniform_mask,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- iBOT


def test_half_of_the_images_hide_nothing_and_the_others_a_share_of_the_range():
    hidden = choice_block_mask(2000, (14, 14), rng=rng()).sum((1, 2)).float()
    assert 0.46 < (hidden == 0).float().mean() < 0.58  # half by choice, some because no block fitted
    assert hidden.max() <= 98
    some = hidden[hidden > 0]
    assert 0.2 * 196 < some.mean() < 0.3 * 196  # below the mean of U(.1, .5), since blocks may not fit


def test_one_mean_without_spread_is_a_constant_share():
    hidden = choice_block_mask(200, (8, 8), (0.25,), (0.0,), rng=rng()).sum((1, 2))
    assert hidden.max() == 16 and hidden.float().mean() > 12
    assert choice_block_mask(5, (8, 8), (0.0,), (0.0,), rng=rng()).sum() == 0


# ---- DINOv2


@pytest.mark.parametrize(("share", "masked"), [(0.5, 32), (0.0, 0), (1.0, 64), (0.3, 19)])
def test_exactly_a_share_of_the_images_is_masked(share, masked):
    mask = stratified_block_mask(64, (14, 14), share, rng=rng())
    assert mask.flatten(1).any(1).sum() == masked


def test_hidden_shares_are_stratified_and_shuffled():
    hidden = stratified_block_mask(64, (14, 14), 0.5, 0.1, 0.5, rng=rng()).sum((1, 2))
    upper = 0.1 + 0.4 * (torch.arange(32) + 1) / 32
    got = hidden[hidden > 0].sort().values
    assert (got <= upper * 196).all()
    assert (got[8:] > (upper[8:] - 0.4 / 32) * 196 - 12).all()  # blocks may end a little below their stratum
    assert not torch.equal(hidden, hidden.sort().values)


def test_hidden_tokens_come_first():
    mask = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    index, hidden = hidden_first(mask, 3)
    assert index.tolist() == [[1, 3, 4], [0, 1, 2], [0, 1, 2]]
    assert hidden.tolist() == [[True] * 3, [False] * 3, [True] * 3]


# ---- UM-MAE


def test_every_group_keeps_one():
    keep, hide = uniform_mask(3000, (4, 6), rng=rng())
    assert keep.shape == (3000, 6) and hide.shape == (3000, 18)
    both = torch.cat((keep, hide), 1).sort(1).values
    assert torch.equal(both, torch.arange(24).expand(3000, -1))
    seen = ~index_mask(hide, 24).view(3000, 2, 2, 3, 2).transpose(2, 3).flatten(3)
    assert (seen.sum(-1) == 1).all()
    assert (seen.float().mean(0) - 0.25).abs().max() < 0.04
    both = (seen[:, 0, 0, 0] & seen[:, 0, 1, 0]).float().mean()
    assert abs(both - 1 / 16) < 0.02  # groups are drawn apart
    rows, columns = keep // 6 // 2, keep % 6 // 2
    assert torch.equal(rows * 3 + columns, torch.arange(6).expand(3000, -1))  # a map of half the side


def test_grid_and_random_sampling():
    keep, _ = uniform_mask(2, (4, 4), "grid", rng=rng())
    assert keep.tolist() == [[0, 2, 8, 10]] * 2
    keep, hide = uniform_mask(50, (4, 4), "random", rng=rng())
    assert keep.shape == (50, 4) and hide.shape == (50, 12)
    assert len(keep.unique(dim=0)) > 40
    with pytest.raises(ValueError, match="2 x 2"):
        uniform_mask(2, (5, 4))


# ---- I-JEPA


def test_targets_are_rectangles_and_never_seen():
    context, targets = multiblock(400, (8, 8), (3, 4), (7, 8), rng=rng())
    assert targets.shape == (400, 4, 12)
    for row, blocks in zip(context[:100].tolist(), targets[:100].tolist()):
        for block in blocks:
            ys, xs = {i // 8 for i in block}, {i % 8 for i in block}
            assert len(ys) == 3 and len(xs) == 4 and max(ys) - min(ys) == 2 and max(xs) - min(xs) == 3
            assert len(set(block)) == 12 and not set(block) & set(row)
        assert max(i // 8 for i in row) - min(i // 8 for i in row) <= 6


def test_every_place_can_be_target_and_context():
    context, targets = multiblock(2000, (8, 8), (3, 3), (7, 7), rng=rng())
    assert torch.bincount(targets.flatten(), minlength=64).min() > 0
    assert torch.bincount(context.flatten(), minlength=64).min() > 0
    corner = torch.bincount(targets[:, :, 0].flatten(), minlength=64).view(8, 8)
    assert (corner[:6, :6] > 0).all() and corner[6:].sum() == 0  # up to the last row that a block fits


def test_contexts_have_one_length_and_repeat_only_where_they_must():
    kept = context_length((14, 14), (6, 6), (13, 13))
    context, _ = multiblock(1000, (14, 14), (6, 6), (13, 13), rng=rng())
    assert context.shape == (1000, kept)
    repeats = torch.tensor([kept - len(set(row)) for row in context.tolist()])
    assert (repeats > 0).float().mean() < 0.05
    full, targets = multiblock(50, (8, 8), (2, 2), (8, 8), kept=64, rng=rng())
    for row, blocks in zip(full.tolist(), targets.flatten(1).tolist()):
        assert set(row) == set(range(64)) - set(blocks)  # all that is left, in turn


@pytest.mark.parametrize("make", [
    lambda g: choice_block_mask(4, (8, 8), (0.4,), (0.1,), rng=g),
    lambda g: stratified_block_mask(4, (8, 8), rng=g),
    lambda g: uniform_mask(4, (8, 8), rng=g)[0],
    lambda g: multiblock(4, (8, 8), (3, 3), (7, 7), rng=g)[1],
])  # fmt: skip
def test_same_generator_same_mask(make):
    assert torch.equal(make(rng(1)), make(rng(1)))
    assert not torch.equal(make(rng(1)), make(rng(2)))
