"""Means with weights, over places of a sample and over samples of all ranks."""

from torch import Tensor

from nolabel.core.dist import sum_over_ranks, world
from nolabel.losses.precision import without_autocast


@without_autocast
def weighted_mean(each_B: Tensor, weight_B: Tensor) -> Tensor:
    """sum_i w_i e_i / sum_i w_i; 0 where all weights are. The sum of the weights is over all ranks."""
    weight_B = weight_B.detach().to(each_B.dtype)
    total = sum_over_ranks(weight_B.sum()) / world()
    return (weight_B * each_B).sum() / total.clamp(min=1e-12)


@without_autocast
def masked_mean(each: Tensor, weight: Tensor) -> Tensor:
    """mean_b sum_j w_bj e_bj / sum_j w_bj; a sample without weight counts as 0."""
    weight = weight.expand_as(each).to(each.dtype)
    total_B = weight.flatten(1).sum(1)
    return ((each * weight).flatten(1).sum(1) / total_B.clamp(min=1e-12)).mean()
