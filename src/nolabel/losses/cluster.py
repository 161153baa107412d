"""Clusters, codes and bags: what samples are assigned to, without labels, and what it costs not to predict it.

k-means (DeepCluster), optimal transport (SwAV, SeLA, DINOv2, MSN), neighbours (Local Aggregation), visual words (OBoW).
Shapes: B samples of this rank, N of all ranks, K prototypes, clusters or words, D features, V views, T assigned views.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core import Logs, UserError
from nolabel.core.dist import gather, mean_over_ranks, own_rows, sum_over_ranks
from nolabel.losses.distill import distill
from nolabel.losses.precision import wide, without_autocast

BLOCK = {"cpu": 2**20}
"""scores of one block of k-means by device type, 2**27 elsewhere"""


@without_autocast
@torch.no_grad()
def sinkhorn(
    scores_BK: Tensor,
    epsilon: float = 0.05,
    iterations: int = 3,
    weight_B: Tensor | None = None,
    tolerance: float | None = None,
) -> Tensor:
    """Codes that use all prototypes equally (B, K) (SwAV: Caron et al., NeurIPS 2020, eq. 3-5; Cuturi, NeurIPS 2013).

    Q = diag(v) exp(S / epsilon) diag(u): in turn u gives prototypes, then v samples, of all ranks, the same mass each.
    Rows sum to one, prototypes only as iterations grow. No gradient, fp32, one buffer of the size of the scores.

    Each row is shifted by its own largest score, which v takes back at the start: the numbers are the textbook's, and
    no row can vanish at small epsilon. Over ranks one maximum is gathered and K sums a round are added up. `weight_B` is
    the mass of each row, 0 for rows that only fill up a tensor; their codes are those that the others lead to.

    With a `tolerance` it ends, for which the host waits, once sum_i |v_i / v'_i - 1| < tolerance between two rounds. On
    scores log p in float64 and epsilon = 1 / lambda that is SeLA (Asano et al., ICLR 2020, eq. 7-8).
    """
    scores_BK = wide(scores_BK)
    top_B = scores_BK.amax(1)
    plan_BK = (scores_BK - top_B[:, None]).div_(epsilon).exp_()
    mass_B = torch.ones_like(top_B) if weight_B is None else wide(weight_B).to(top_B.dtype)
    largest = top_B.where(mass_B > 0, -torch.inf).amax()
    most = gather(torch.stack((largest, mass_B.sum()))[None])
    share = most[:, 1].sum() / scores_BK.shape[1]  # samples a prototype
    sample_B = top_B.sub_(most[:, 0].amax()).clamp_(max=0).div_(epsilon).exp_()
    prototype_K = torch.ones_like(plan_BK[0])
    for _ in range(iterations):
        taken_K = sum_over_ranks((sample_B * mass_B) @ plan_BK)
        prototype_K = share / taken_K.clamp_(min=1e-30)  # where no sample comes near
        before_B, sample_B = sample_B, 1 / (plan_BK @ prototype_K).clamp_(min=1e-30)
        if tolerance is not None and sum_over_ranks((before_B / sample_B - 1).abs().sum()) < tolerance:
            break
    return plan_BK.mul_(prototype_K).mul_(sample_B[:, None])


def targets(logits: Tensor, temperature: float, center_K: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """What a teacher's logits (..., K) ask of a student, without gradient: softmax((x - center) / temperature).

    (DINO: Caron et al., ICCV 2021, eq. 1.) Without a centre it is the codes of Sinkhorn-Knopp over all rows of all ranks
    (DINOv2: Oquab et al., TMLR 2024, section 4), to which rows count as much as their `weight` (...,) says.
    """
    if center_K is not None:
        return ((wide(logits).detach() - center_K) / temperature).softmax(-1)
    weight_B = None if weight is None else weight.flatten().float()
    return sinkhorn(logits.flatten(0, -2), temperature, weight_B=weight_B).view(logits.shape)


@without_autocast
@torch.no_grad()
def teacher_logs(p: Tensor) -> Logs:
    """What tells the two collapses of a teacher's probabilities (..., K) apart: `teacher_entropy`, ln K where all are
    uniform, and `prototypes_used`, 1 / K where all are the same one.
    """
    p_BK = wide(p).flatten(0, -2)
    return {
        "teacher_entropy": -torch.special.xlogy(p_BK, p_BK).sum(1).mean(), "prototypes_used": usage(p_BK)
    }  # fmt: skip


def swap(
    scores_VBK: Tensor | Sequence[Tensor], codes_TBK: Tensor | Sequence[Tensor], temperature: float = 0.1
) -> Tensor:
    """Swapped prediction (SwAV, eq. 2 and its multi-crop form): every view predicts the codes of the other views.

    L = 1/T sum_t 1/(V-1) sum_{v != t} mean_b -sum_k Q_tbk log softmax(s_vb / tau)_k. Codes are of the first T views.
    """
    return distill(scores_VBK, codes_TBK, temperature)


@without_autocast
def products(x: Tensor, rows_KD: Tensor) -> Tensor:
    """x (..., B, D) with each of K rows (..., K, D): (..., B, K) in fp32, for a temperature multiplies what bf16 leaves out."""
    return wide(x) @ wide(rows_KD).mT


@without_autocast
@torch.no_grad()
def usage(p_BK: Tensor) -> Tensor:
    """How many of K outcomes a batch uses, from 1 / K to 1: exp(entropy of the mean distribution of all ranks) / K."""
    mean_K = mean_over_ranks(wide(p_BK).mean(0))
    return (-(mean_K * mean_K.clamp_min(1e-12).log()).sum()).exp() / len(mean_K)


@without_autocast
@torch.no_grad()
def kmeans(
    x_BD: Tensor, clusters: int, iterations: int = 20, spherical: bool = False, start_KD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Lloyd's k-means over the rows of all ranks -> (centroids (K, D), the cluster of each row of this rank (B,)).

    `x_BD` are the `core.dist.own_rows` of this rank; the centroids are alike on all ranks. They start as rows drawn from
    the default generator of the CPU, which must be seeded alike on all ranks, or at `start_KD`. A cluster that became
    empty is put beside one drawn by size, which it splits (DeepCluster: Caron et al., ECCV 2018, section 3.3).
    `spherical`: unit rows and centroids, by cosine. The host waits: for hooks, not for a forward.

    Raises `UserError` where there are fewer rows than clusters.
    """
    x_BD = wide(x_BD)
    count = int(sum_over_ranks(x_BD.new_full((), len(x_BD), dtype=torch.float64)))
    if count < clusters:
        raise UserError(f"{clusters} clusters need as many samples and there are {count}; set fewer clusters")
    centroid_KD = _some_rows(x_BD, count, clusters) if start_KD is None else start_KD.clone()
    cluster_B = _nearest(x_BD, centroid_KD)
    for _ in range(iterations):
        size_K, sum_KD = x_BD.new_zeros(clusters), torch.zeros_like(centroid_KD)
        size_K = sum_over_ranks(size_K.index_add_(0, cluster_B, torch.ones_like(x_BD[:, 0])))
        sum_KD = sum_over_ranks(sum_KD.index_add_(0, cluster_B, x_BD))
        centroid_KD = torch.where(size_K[:, None] > 0, sum_KD / size_K[:, None].clamp_min(1), centroid_KD)
        split = _split(centroid_KD, size_K)
        if spherical:
            centroid_KD = F.normalize(centroid_KD, dim=1)
        before_B, cluster_B = cluster_B, _nearest(x_BD, centroid_KD)
        if not split and not sum_over_ranks((cluster_B != before_B).sum()):
            break
    return centroid_KD, cluster_B


def _some_rows(x_BD: Tensor, count: int, some: int) -> Tensor:
    """`some` of the rows of all ranks, drawn without replacement, alike on all ranks."""
    row_K = torch.randperm(count)[:some].to(x_BD.device)
    here = own_rows(count)
    mine_K = (row_K >= here.start) & (row_K < here.stop)
    chosen_KD = x_BD.new_zeros(some, x_BD.shape[1])
    chosen_KD[mine_K] = x_BD[row_K[mine_K] - here.start]
    return sum_over_ranks(chosen_KD)


def _nearest(x_BD: Tensor, centroid_KD: Tensor) -> Tensor:
    """The centroid nearest to each row: argmin |x - c|^2 = argmax x . c - |c|^2 / 2, by blocks of rows."""
    half_K = centroid_KD.square().sum(1) / 2
    rows = max(1, BLOCK.get(x_BD.device.type, 2**27) // len(centroid_KD))
    return torch.cat([torch.addmm(half_K, part, centroid_KD.T, beta=-1).argmax(1) for part in x_BD.split(rows)])


def _split(centroid_KD: Tensor, size_K: Tensor) -> bool:
    """Move the centroids of empty clusters next to others, in place; whether there were any."""
    empty = (size_K == 0).nonzero()[:, 0]
    if len(empty):
        large_K = (size_K.cpu() - 1).clamp(min=0) + 1e-6 * (size_K.cpu() > 0)
        donor = torch.multinomial(large_K, len(empty), replacement=len(empty) > int((large_K > 0).sum()))
        sign = torch.randint(2, (len(empty), centroid_KD.shape[1])).to(centroid_KD) * 2 - 1
        centroid_KD[empty] = centroid_KD[donor.to(centroid_KD.device)] * (1 + sign / 1024)
    return len(empty) > 0


@without_autocast
@torch.no_grad()
def pca_whitening(x_BD: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and matrix (D, P), P <= dim, such that the covariance of (x - mean) @ matrix is 1, over all ranks.

    The first P principal components, each divided by its standard deviation. Directions without variance become 0.
    """
    x_BD = x_BD.double()
    count = sum_over_ranks(x_BD.new_full((), len(x_BD)))
    mean_D = sum_over_ranks(x_BD.sum(0)) / count
    away_BD = x_BD - mean_D
    variance_D, axis_DD = torch.linalg.eigh(sum_over_ranks(away_BD.T @ away_BD) / count)
    variance_P, axis_DP = variance_D.flip(0)[:dim], axis_DD.flip(1)[:, :dim]
    scale_P = torch.where(variance_P > 1e-6 * variance_P[0], variance_P, torch.inf).rsqrt()
    return mean_D.float(), (axis_DP * scale_P).float()


@torch.no_grad()
def nmi(a_N: Tensor, b_N: Tensor) -> Tensor:
    """Normalised mutual information of two clusterings, 0 to 1: I(A; B) / sqrt(H(A) H(B)); 1 where both are constant."""

    def entropy(code_N: Tensor) -> Tensor:
        p = code_N.unique(return_counts=True)[1].double() / len(code_N)
        return -(p * p.log()).sum()

    one, two = entropy(a_N), entropy(b_N)
    shared = one + two - entropy(a_N * (b_N.amax() + 1) + b_N)
    return torch.where(one * two > 0, shared / (one * two).sqrt(), (one == two).double()).float()


@without_autocast
def local_aggregation(
    query_BD: Tensor, bank_ND: Tensor, index_B: Tensor, cluster_HN: Tensor, background: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Local aggregation (Zhuang, Zhai, Yamins, ICCV 2019, eq. 3-5) -> (loss, mean number of close neighbours).

    L = mean_i -log P(C_i and B_i) / P(B_i), P(A) = sum_{j in A} exp(v_i . b_j / tau): of the `background` rows B_i most
    like v_i, those in its cluster in any of the H clusterings are close. A row's own entry is always in both, in the
    place of the last of B_i if need be. The bank is unit rows, alike on all ranks, and gets no gradient.
    """
    query_BD = F.normalize(wide(query_BD), dim=1)
    with torch.no_grad():
        alike_BN = (query_BD @ bank_ND.T).scatter_(1, index_B[:, None], -torch.inf)
        others = min(background, len(bank_ND)) - 1
        near_BK = torch.cat((index_B[:, None], alike_BN.topk(others, sorted=False).indices), 1)
        close_BK = (cluster_HN[:, near_BK] == cluster_HN[:, index_B, None]).any(0)
    logits_BK = torch.einsum("bd,bkd->bk", query_BD, bank_ND[near_BK].to(query_BD.dtype)) / temperature
    close_B = logits_BK.masked_fill(~close_BK, -torch.inf).logsumexp(1)
    return (logits_BK.logsumexp(1) - close_B).mean(), close_BK.sum(1).float().mean()


@without_autocast
def square_distances(x_BLD: Tensor, words_KD: Tensor) -> Tensor:
    """|x_l - w_k|^2 (B, L, K), never below zero."""
    x_BLD, words_KD = wide(x_BLD), wide(words_KD)
    square_K = words_KD.square().sum(1)
    return (x_BLD.square().sum(-1, keepdim=True) + square_K - 2 * (x_BLD @ words_KD.T)).clamp_min(0)


@without_autocast
@torch.no_grad()
def bag_of_words(distance_BLK: Tensor, sharpness: float | Tensor) -> Tensor:
    """Bags of visual words (B, K), rows summing to one (OBoW: Gidaris et al., CVPR 2021, section 3.2).

    Each of L places is assigned softly, softmax(-sharpness d), a word counts as much as at its best place, and the bag
    is divided by its sum. No gradient.
    """
    return F.normalize((wide(distance_BLK) * -sharpness).softmax(-1).amax(1), p=1.0, dim=1)
