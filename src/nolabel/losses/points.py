"""Distances between sets of points.

Shapes: N sets, A and K points in each of two sets, C coordinates. Means over the sets of this rank.
"""

from torch import Tensor

from nolabel.losses.precision import wide, without_autocast


@without_autocast
def chamfer(a_NAC: Tensor, b_NKC: Tensor) -> Tensor:
    """Chamfer distance, squared (Fan, Su, Guibas, CVPR 2017, eq. 1, with means; Point-MAE, Pang et al., ECCV 2022, eq. 4).

    mean_n [ mean_a min_b |a - b|^2 + mean_b min_a |a - b|^2 ]; zero if and only if the sets are equal.
    """
    a_NA1C, b_N1KC = wide(a_NAC)[:, :, None], wide(b_NKC)[:, None]
    square_NAK = (a_NA1C - b_N1KC).square().sum(-1)
    return square_NAK.amin(2).mean() + square_NAK.amin(1).mean()
