"""Losses between a student and a teacher: cosine (BYOL, SimSiam), distributions (DINO, KD), and KoLeo.

Shapes: B samples of this rank, D embedding, K classes or prototypes, S student views, T teacher views.
The teacher's side never gets gradient. Losses are means over this rank's samples, so their mean over ranks is that of
the global batch; only `koleo` and `mean_entropy` look at other ranks.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.dist import gather, mean_over_ranks, rank
from nolabel.losses.precision import wide, without_autocast


@without_autocast
def negative_cosine(prediction_BD: Tensor, target_BD: Tensor) -> Tensor:
    """-mean_i cos(p_i, sg(z_i)) (SimSiam: Chen, He, CVPR 2021, eq. 1), in [-1, 1].

    One direction of BYOL (Grill et al., NeurIPS 2020, eq. 2) is 2 + 2 times this.
    """
    return -F.cosine_similarity(wide(prediction_BD), wide(target_BD).detach(), dim=-1, eps=1e-12).mean()


@without_autocast
def cross_entropy_soft(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """-mean over all leading axes of sum_k sg(t_k) log softmax(x)_k; the targets need not sum to one."""
    log_p_BK = F.log_softmax(wide(logits_BK), dim=-1)
    return -(wide(target_BK).detach() * log_p_BK).sum(-1).mean()


@without_autocast
def distill(
    student_SBK: Tensor | Sequence[Tensor],
    teacher_TBK: Tensor | Sequence[Tensor],
    temperature: float = 1.0,
    skip_same: bool = True,
) -> Tensor:
    """The loss of DINO (Caron et al., ICCV 2021, eq. 3): every student view learns every other teacher view.

    L = 1/pairs sum_t sum_{s != t} mean_b -sum_k P_tbk log softmax(x_sb / temperature)_k

    `student_SBK` are logits, `teacher_TBK` probabilities; the teacher saw the first T of the S views. With S = T = 1 or
    `skip_same=False` no pair is left out. The targets of a view are added up first: one softmax a view.
    """
    teachers = [wide(t_BK).detach() for t_BK in teacher_TBK]
    everyone = torch.stack(teachers).sum(0) if len(teachers) > 1 else teachers[0]
    skip_same = skip_same and len(student_SBK) > 1
    pairs = len(student_SBK) * len(teachers) - (min(len(student_SBK), len(teachers)) if skip_same else 0)
    loss = everyone.new_zeros(())
    for s, logits_BK in enumerate(student_SBK):
        same = skip_same and s < len(teachers)
        if same and len(teachers) == 1:
            continue
        target_BK = everyone - teachers[s] if same else everyone
        loss = loss + cross_entropy_soft(wide(logits_BK) / temperature, target_BK)
    return loss / pairs


@without_autocast
def distill_masked(student_BMK: Tensor, teacher_BMK: Tensor, weight_BM: Tensor, temperature: float = 1.0) -> Tensor:
    """The patch loss of iBOT (Zhou et al., ICLR 2022, eq. 2): hidden tokens learn what the teacher sees there.

    L = mean_b 1/max(1, sum_m w_bm) sum_m w_bm -sum_k P_bmk log softmax(x_bm / temperature)_k

    `student_BMK` are logits, `teacher_BMK` probabilities, `weight_BM` 1 for hidden tokens and 0 for what fills up. A
    sample that hides nothing counts as zero.
    """
    weight_BM = wide(weight_BM.to(student_BMK.dtype))
    log_p_BMK = F.log_softmax(wide(student_BMK) / temperature, dim=-1)
    cost_BM = -(wide(teacher_BMK).detach() * log_p_BMK).sum(-1)
    return ((cost_BM * weight_BM).sum(1) / weight_BM.sum(1).clamp(min=1)).mean()


@without_autocast
def distill_regions(student_BLK: Tensor, teacher_BMK: Tensor, nearest_BL: Tensor, temperature: float = 1.0) -> Tensor:
    """The region loss of EsViT (Li et al., ICLR 2022, eq. 4): mean over regions of CE(P_teacher(nearest), student).

    `student_BLK` are logits, `teacher_BMK` probabilities of another view, `nearest_BL` the region of it that fits best.
    """
    target_BLK = wide(teacher_BMK).take_along_dim(nearest_BL[..., None], 1)
    return cross_entropy_soft(wide(student_BLK) / temperature, target_BLK)


@torch.no_grad()
def nearest_regions(a_BLD: Tensor, b_BMD: Tensor) -> Tensor:
    """For each region of `a` the number of the region of `b` in the same sample with the largest cosine (B, L)."""
    a_BLD, b_BMD = F.normalize(wide(a_BLD), dim=-1), F.normalize(wide(b_BMD), dim=-1)
    return (a_BLD @ b_BMD.mT).argmax(-1)


@without_autocast
def mean_entropy(p_BK: Tensor) -> Tensor:
    """log K - H(mean of p over the rows of all ranks): 0 where all K are used alike, log K where one is (MSN, eq. 2).

    The value is that of the global batch, on every rank.
    """
    p_K = mean_over_ranks(wide(p_BK).mean(0))
    return math.log(p_BK.shape[1]) + torch.special.xlogy(p_K, p_K).sum()


@without_autocast
def gram(x_BLD: Tensor, anchor_BLD: Tensor) -> Tensor:
    """Gram anchoring (DINOv3: Simeoni et al., 2025, eq. 2): mean squared difference of the cosines of all token pairs.

    For each image apart; a rotation of its tokens, or another length of one, costs nothing.
    """
    x_BLD, anchor_BLD = F.normalize(wide(x_BLD), dim=-1), F.normalize(wide(anchor_BLD).detach(), dim=-1)
    return F.mse_loss(x_BLD @ x_BLD.mT, anchor_BLD @ anchor_BLD.mT)


@without_autocast
def kl(student_BK: Tensor, teacher_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 mean_b KL(softmax(t_b / T) || softmax(s_b / T)) of logits (Hinton, Vinyals, Dean, 2015, section 2).

    The factor keeps the size of the gradient when the temperature changes.
    """
    log_p_BK = F.log_softmax(wide(student_BK) / temperature, dim=-1)
    log_t_BK = F.log_softmax(wide(teacher_BK).detach() / temperature, dim=-1)
    return (log_t_BK.exp() * (log_t_BK - log_p_BK)).sum(-1).mean() * temperature**2


@without_autocast
def koleo(x_BD: Tensor, eps: float = 1e-8) -> Tensor:
    """-mean_i log(|x_i - x_nn(i)| + eps) of unit rows (Sablayrolles, Douze, Schmid, Jegou, ICLR 2019, eq. 4).

    Spreads a batch out: the nearest neighbour of each row, among the rows of all ranks, is pushed away.
    """
    x_BD = F.normalize(wide(x_BD), dim=-1)
    all_ND = gather(x_BD)
    with torch.no_grad():
        similarity_BN = x_BD @ all_ND.T
        here = torch.arange(len(x_BD), device=x_BD.device)[:, None] + rank() * len(x_BD)
        nearest_B = similarity_BN.scatter_(1, here, -torch.inf).argmax(1)
    distance_B = F.pairwise_distance(x_BD, all_ND[nearest_B], eps=eps)
    return -(distance_B + eps).log().mean()
