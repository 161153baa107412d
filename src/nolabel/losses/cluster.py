"""Codes by optimal transport (SwAV, SeLa, DINOv2, MSN) and their prediction from other views.

Shapes: B samples of this rank, K prototypes, V views, T views that are assigned.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nolabel.core.dist import gather, sum_over_ranks, world
from nolabel.losses.distill import distill
from nolabel.losses.precision import wide, without_autocast


@without_autocast
@torch.no_grad()
def sinkhorn(scores_BK: Tensor, epsilon: float = 0.05, iterations: int = 3, weight_B: Tensor | None = None) -> Tensor:
    """Codes that use all prototypes equally (B, K) (SwAV: Caron et al., NeurIPS 2020, eq. 3-5; Cuturi, NeurIPS 2013).

    Q = diag(v) exp(S / epsilon) diag(u): in turn u gives prototypes, then v samples, of all ranks, the same mass each.
    Rows sum to one, prototypes only as iterations grow. No gradient, fp32, one buffer of the size of the scores.

    Each row is shifted by its own largest score, which v takes back at the start: the numbers are the textbook's, and
    no row can vanish at small epsilon. Over ranks one maximum is gathered and K sums a round are added up. `weight_B` is
    the mass of each row, 0 for rows that only fill up a tensor; their codes are those that the others lead to.
    """
    scores_BK = wide(scores_BK)
    top_B = scores_BK.amax(1)
    plan_BK = (scores_BK - top_B[:, None]).div_(epsilon).exp_()
    largest = top_B.amax() if weight_B is None else top_B.where(weight_B > 0, -torch.inf).amax()
    sample_B = top_B.sub_(gather(largest.reshape(1)).amax()).clamp_(max=0).div_(epsilon).exp_()
    prototype_K = torch.ones_like(plan_BK[0])
    mass = len(scores_BK) * world() if weight_B is None else sum_over_ranks(wide(weight_B).sum())
    share = mass / scores_BK.shape[1]  # samples a prototype
    for _ in range(iterations):
        seen_B = sample_B if weight_B is None else sample_B * weight_B
        prototype_K = share / sum_over_ranks(seen_B @ plan_BK).clamp_(min=1e-30)  # where no sample comes near
        sample_B = 1 / (plan_BK @ prototype_K).clamp_(min=1e-30)
    return plan_BK.mul_(prototype_K).mul_(sample_B[:, None])


def swap(
    scores_VBK: Tensor | Sequence[Tensor], codes_TBK: Tensor | Sequence[Tensor], temperature: float = 0.1
) -> Tensor:
    """Swapped prediction (SwAV, eq. 2 and its multi-crop form): every view predicts the codes of the other views.

    L = 1/T sum_t 1/(V-1) sum_{v != t} mean_b -sum_k Q_tbk log softmax(s_vb / tau)_k. Codes are of the first T views.
    """
    return distill(scores_VBK, codes_TBK, temperature)
