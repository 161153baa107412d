"""Contrastive losses: SimCLR, MoCo, MoCo v3, CLIP, NNCLR, SupCon, CPC and their ancestors, margin and triplet.

The softmax losses share one kernel, `_LogSumExp`: it visits the pair matrix in tiles and makes the gradient while a
tile is at hand, so memory is O(tile) and the matrix is built once, not again on the way back.

Shapes: B samples of this rank, N keys of all ranks, K rows of a bank, D embedding.
Ranks: a loss is the mean over this rank's anchors against the keys of all ranks. Averaged over ranks, as data-parallel
training does with gradients, it is the loss of the global batch.
Rows are normalised inside; `accuracy` is detached: the share of anchors whose positive scores above every negative.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.dist import gather, rank, sum_over_ranks, world
from nolabel.losses.precision import wide, without_autocast
from nolabel.losses.weighted import weighted_mean

TILE = {"cpu": 2**19}
"""scores in one tile by device type, 2**26 elsewhere"""
SIDE = 128
"""of a tile, at least: less makes the products slow"""
DTYPE = {"full": None, "bf16": torch.bfloat16}
"""`precision` of the products with the keys: that of the input, or bf16 with sums in fp32"""


class _LogSumExp(torch.autograd.Function):
    """sum_i w_i log(exp(own_i) + sum_{j not in skip_i} exp(q_i . k_j)), and the largest q_i . k_j of each row.

    The gradient is made in the forward: with p_ij the softmax, dq_i = w_i sum_j p_ij k_j and dk_j = sum_i w_i p_ij q_i.
    So the keys may change in place before `backward` (a queue may take its new rows at once). Where keys want no
    gradient the rows, too, are visited in parts, with a running maximum: a large bank is read once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_BD: Tensor,
        key_ND: Tensor,
        own_B: Tensor | None,
        skip_BS: Tensor | None,
        weight_B: Tensor,
        dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        wants_query, wants_key, wants_own = ctx.needs_input_grad[:3]
        area = TILE.get(query_BD.device.type, 2**26)
        width = len(key_ND) if wants_key else max(SIDE, area // min(len(query_BD), 8 * SIDE))
        height = min(len(query_BD), max(SIDE, area // width))
        keys = key_ND.to(dtype or key_ND.dtype)
        mixed = keys.dtype != query_BD.dtype
        wide_tile = query_BD.new_empty(height * min(width, len(keys)))
        tile = wide_tile.to(keys.dtype)  # the same memory where no dtypes are mixed

        pull_BD = torch.zeros_like(query_BD)  # becomes the gradient of the queries
        grad_key = torch.zeros_like(keys, dtype=query_BD.dtype) if wants_key else None
        top_B = torch.full_like(weight_B, -torch.inf)
        shift_B = top_B.clone() if own_B is None else own_B.clone()
        mass_B = torch.zeros_like(weight_B) if own_B is None else torch.ones_like(weight_B)
        for start in range(0, len(query_BD), height):
            i = slice(start, start + height)
            query, top, shift, mass, pull = query_BD[i].to(keys.dtype), top_B[i], shift_B[i], mass_B[i], pull_BD[i]
            for first in range(0, len(keys), width):
                part = keys[first : first + width]
                shape = len(query), len(part)
                products = tile[: len(query) * len(part)].view(shape)
                scores = wide_tile[: len(query) * len(part)].view(shape)
                torch.mm(query, part.T, out=products)
                if mixed:
                    scores.copy_(products)
                if skip_BS is not None:
                    at = skip_BS[i] - first
                    hidden = torch.where((at >= 0) & (at < len(part)), -torch.inf, 0.0).to(scores.dtype)
                    scores.scatter_add_(1, at.clamp(0, len(part) - 1), hidden)
                torch.maximum(top, scores.amax(1), out=top)
                new = torch.maximum(shift, top)
                fade = torch.exp(shift - new)
                shift.copy_(new)
                mass.mul_(fade).add_(scores.sub_(shift[:, None]).exp_().sum(1))
                if mixed:
                    products.copy_(scores)
                if wants_query:
                    pull.mul_(fade[:, None]).add_(products @ part)
            if grad_key is not None:
                shared = (query_BD[i] * (weight_B[i] / mass)[:, None]).to(keys.dtype)
                grad_key = grad_key.add_(products.T @ shared) if mixed else grad_key.addmm_(products.T, shared)
        ctx.mark_non_differentiable(top_B)
        share_B = weight_B / mass_B
        grad_query = pull_BD.mul_(share_B[:, None]) if wants_query else None
        grad_own = share_B * torch.exp(own_B - shift_B) if own_B is not None and wants_own else None
        ctx.grads = grad_query, grad_key, grad_own
        return weight_B @ (mass_B.log() + shift_B), top_B

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if grad is None else grad * outer[0] for grad in ctx.grads), None, None, None)


class _Unit(torch.autograd.Function):
    """Rows of length one, z = x / |x|: dx = (dz - z <z, dz>) / |x|. Keeps z, which the losses need anyway, and not x."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        inverse_B1 = 1 / x_BD.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        z_BD = x_BD * inverse_B1
        ctx.save_for_backward(z_BD, inverse_B1)
        return z_BD

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        z_BD, inverse_B1 = ctx.saved_tensors
        return (z_BD * -torch.linalg.vecdot(z_BD, outer[0])[..., None]).add_(outer[0]).mul_(inverse_B1)


def _unit(x_BD: Tensor) -> Tensor:
    return _Unit.apply(wide(x_BD))  # type: ignore[no-any-return]


def _cross_entropy(
    query_BD: Tensor, own_B: Tensor, key_ND: Tensor, skip_BS: Tensor | None, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """-mean_i log( exp(own_i) / (exp(own_i) + sum_j exp(q_i . k_j)) ) and the share of own_i above every q_i . k_j."""
    weight_B = torch.full_like(own_B, 1 / len(own_B), requires_grad=False)
    total, top_B = _LogSumExp.apply(query_BD, key_ND, own_B, skip_BS, weight_B, dtype)
    mean_own = own_B.mean()
    own_B = own_B.detach()
    tie_B = 8 * torch.finfo(own_B.dtype).eps * own_B.abs()  # a collapsed encoder gets nothing right
    return total - mean_own, (own_B > top_B + tie_B).to(own_B.dtype).mean()


def _rows_of_rank(x: Tensor) -> Tensor:
    """Where the rows of this rank stand among those of all ranks."""
    return torch.arange(len(x), device=x.device) + rank() * len(x)


@without_autocast
def nt_xent(a_BD: Tensor, b_BD: Tensor, temperature: float, precision: str = "full") -> tuple[Tensor, Tensor]:
    """NT-Xent, the loss of SimCLR (Chen, Kornblith, Norouzi, Hinton, ICML 2020, eq. 1) -> (loss, accuracy).

    l(i, j) = -log exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau), mean over the 2B ordered pairs (i, j) of
    views of one sample. k runs over both views of all ranks: 2N - 1 terms, so a constant encoder has loss ln(2N - 1).
    """
    z_2BD = _unit(torch.cat((a_BD, b_BD)))
    own_2B = (torch.linalg.vecdot(*z_2BD.chunk(2)) / temperature).repeat(2)
    row_2B = _rows_of_rank(z_2BD)
    skip = torch.stack((row_2B, row_2B.roll(len(a_BD))), 1)
    return _cross_entropy(z_2BD / temperature, own_2B, gather(z_2BD), skip, DTYPE[precision])


@without_autocast
def info_nce(
    query_BD: Tensor, positive_BD: Tensor, keys_KD: Tensor, temperature: float, skip_B: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE against a bank, as in MoCo (He, Fan, Wu, Xie, Girshick, CVPR 2020, eq. 1) -> (loss, accuracy).

    L = -mean_i log exp(q_i . p_i / tau) / (exp(q_i . p_i / tau) + sum_k exp(q_i . k / tau)); ln(1 + K) when constant.

    `keys_KD`: unit rows, taken without gradient and in their own dtype (a bf16 bank means bf16 products); they may
    change in place before `backward`. `skip_B`: the row that a query must not meet, e.g. its own in a bank with one row
    a sample (Wu, Xiong, Yu, Lin, CVPR 2018, eq. 2). Nothing is summed over ranks: the bank is the same on all.
    """
    query_BD = _unit(query_BD) / temperature
    own_B = (query_BD * _unit(positive_BD)).sum(1)
    keys_KD = keys_KD.detach() if keys_KD.dtype == torch.bfloat16 else keys_KD.detach().to(query_BD.dtype)
    return _cross_entropy(query_BD, own_B, keys_KD, None if skip_B is None else skip_B[:, None], None)


@without_autocast
def nce(
    query_BD: Tensor,
    positive_BD: Tensor,
    noise_KD: Tensor,
    temperature: float,
    partition: float,
    skip_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Noise-contrastive estimation of a softmax over n rows (Wu, Xiong, Yu, Lin, CVPR 2018, eq. 4-7) -> (loss, accuracy).

    L = mean_i ( -log h(p_i) - sum_k log(1 - h(b_k)) ), h(b) = P / (P + K / n), P = exp(q_i . b / tau) / Z.

    `partition`: Z / n, a constant. `noise_KD`: K unit rows drawn from the n uniformly, without gradient. `skip_B`: the
    noise row that a query must not meet, -1 for none; (B, S) for several. `positive_BD` may be (B, P, D): the mean over P
    positives. Rows may change in place before `backward`. Nothing is summed over ranks.
    """
    query_BD = _unit(query_BD) / temperature
    log_odds = math.log(partition * len(noise_KD))
    own_BP = (query_BD[:, None] * _unit(positive_BD).view(len(query_BD), -1, query_BD.shape[1])).sum(2)
    scores_BK = query_BD @ noise_KD.detach().to(query_BD.dtype, copy=True).T
    if skip_B is not None:
        skip_BS = skip_B.view(len(query_BD), -1)
        hidden_BS = torch.where(skip_BS >= 0, -torch.inf, 0.0).to(scores_BK.dtype)
        scores_BK = scores_BK.scatter_add(1, skip_BS.clamp(min=0), hidden_BS)
    loss_B = F.softplus(log_odds - own_BP).mean(1) + F.softplus(scores_BK - log_odds).sum(1)
    return loss_B.mean(), (own_BP > scores_BK.amax(1, keepdim=True)).detach().to(loss_B.dtype).mean()


@without_autocast
def info_nce_batch(
    query_BD: Tensor, key_BD: Tensor, temperature: float | Tensor, precision: str = "full"
) -> tuple[Tensor, Tensor]:
    """InfoNCE with the other rows of `key_BD` as negatives, of all ranks, in one direction -> (loss, accuracy).

    L = -mean_i log exp(q_i . k_i / tau) / sum_j exp(q_i . k_j / tau): N - 1 negatives, none from the query's own view.
    MoCo v3 (Chen, Xie, He, ICCV 2021, eq. 1) is 2 tau (L(q1, k2) + L(q2, k1)); NNCLR (Dwibedi et al., ICCV 2021, eq. 2)
    has neighbours as queries. Gradient goes to the keys of all ranks if they want it. `temperature` may be learned.
    """
    query_BD, key_BD = _unit(query_BD) / temperature, _unit(key_BD)
    own_B = torch.linalg.vecdot(query_BD, key_BD)
    return _cross_entropy(query_BD, own_B, gather(key_BD), _rows_of_rank(key_BD)[:, None], DTYPE[precision])


@without_autocast
def info_nce_places(
    query_MD: Tensor, key_BD: Tensor, positive_M: Tensor, skip_MS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE of any queries against all keys of all ranks, by plain products -> (loss, accuracy).

    L = -mean_m log exp(q_m . k_p(m)) / sum_j exp(q_m . k_j), p the row of this rank's keys that is the positive: the loss
    of CPC (van den Oord, Li, Vinyals, 2018, eq. 4) with f = exp(z^T W c). ln N when constant. Keys get gradient.
    `skip_MS`: rows of this rank's keys that a query must not meet beside its positive.
    """
    query_MD, key_BD = wide(query_MD), wide(key_BD)
    own_M = (query_MD * key_BD[positive_M]).sum(1)
    hidden_MS = positive_M[:, None] if skip_MS is None else torch.cat((positive_M[:, None], skip_MS), 1)
    return _cross_entropy(query_MD, own_M, gather(key_BD), hidden_MS + rank() * len(key_BD), None)


@without_autocast
def info_nce_distinct(query_MD: Tensor, key_BD: Tensor, positive_M: Tensor, thing_B: Tensor) -> tuple[Tensor, Tensor]:
    """`info_nce_places` where several keys may be of one thing, or of nothing -> (loss, accuracy).

    `thing_B` numbers what the keys are of, alike on all ranks; 0 is nothing. The keys of the positive's thing are no
    negatives, those of nothing are neither negatives nor positives: the mean is over the other queries of all ranks, 0 where
    there are none. Holds the pair matrix (M, N).
    """
    query_MD, key_BD = wide(query_MD), wide(key_BD)
    own_M, thing_M = (query_MD * key_BD[positive_M]).sum(1), thing_B[positive_M]
    thing_N = gather(thing_B)
    alike_MN = (thing_N == thing_M[:, None]) | (thing_N == 0)
    scores_MN = (query_MD @ gather(key_BD).T).masked_fill(alike_MN, -torch.inf)
    each_M = torch.cat((own_M[:, None], scores_MN), 1).logsumexp(1) - own_M
    own_M, top_M = own_M.detach(), scores_MN.detach().amax(1)
    right_M = own_M > top_M + 8 * torch.finfo(own_M.dtype).eps * own_M.abs()
    return weighted_mean(each_M, thing_M != 0), weighted_mean(right_M.to(own_M.dtype), thing_M != 0)


@without_autocast
def info_nce_within(query_BLD: Tensor, key_BSD: Tensor, positive_L: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE of queries against the keys of their own sample alone, by plain products -> (loss, accuracy).

    L = -mean_bl log exp(q_bl . k_bp(l)) / sum_s exp(q_bl . k_bs), p(l) the key that is the positive of query l: CPC with
    wrong answers "from the current sequence" (van den Oord, Li, Vinyals, 2018, table 2). ln S when constant.
    """
    scores_BLS = wide(query_BLD) @ wide(key_BSD).mT
    place_BL1 = positive_L[:, None].expand(*scores_BLS.shape[:2], 1)
    own_BL = scores_BLS.gather(2, place_BL1)[..., 0]
    best_BL = scores_BLS.detach().scatter(2, place_BL1, -torch.inf).amax(2)
    return (scores_BLS.logsumexp(2) - own_BL).mean(), (own_BL > best_BL).to(own_BL.dtype).mean()


def clip(a_BD: Tensor, b_BD: Tensor, scale: float | Tensor, precision: str = "full") -> tuple[Tensor, Tensor]:
    """The symmetric loss of CLIP (Radford et al., ICML 2021, fig. 3) -> (loss, accuracy), means of both directions.

    L = (L(a, b) + L(b, a)) / 2 with logits scale a_i . b_j; `scale` is 1 / tau and may be learned (0-d or (1,)).
    """
    temperature = 1 / scale
    one, right = info_nce_batch(a_BD, b_BD, temperature, precision)
    two, wrong = info_nce_batch(b_BD, a_BD, temperature, precision)
    return (one + two) / 2, (right + wrong) / 2


@without_autocast
def sup_con(z_BD: Tensor, label_B: Tensor, temperature: float, precision: str = "full", inside: bool = False) -> Tensor:
    """SupCon, L_out (Khosla et al., NeurIPS 2020, eq. 2): all rows with the label of the anchor are positives.

    L = mean_i -1/|P(i)| sum_{p in P(i)} log exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau)

    `z_BD` holds all views, one below the other, and `label_B` their labels (any integers). The mean is over the anchors
    of all ranks that have a positive; with the sample number as label it is NT-Xent. `inside` is L_in of eq. 3, the mean
    over positives inside the logarithm; it holds the pair matrix (B, N).
    """
    z_BD = _unit(z_BD)
    key_ND, label_N = gather(z_BD), gather(label_B)
    group_N = torch.searchsorted(label_N.sort().values, label_N)  # equal labels, equal numbers below N
    row_B = _rows_of_rank(z_BD)
    group_B = group_N[row_B]
    sum_ND = torch.zeros_like(key_ND).index_add(0, group_N, key_ND)  # of the members of each group
    size_N = key_ND.new_zeros(len(key_ND)).index_add_(0, group_N, key_ND.new_ones(len(key_ND)))
    others_B = size_N[group_B] - 1
    positive_BD = (sum_ND[group_B] - z_BD) / others_B.clamp(min=1)[:, None]  # the mean positive of each anchor

    has_B = (others_B > 0).to(z_BD.dtype)
    weight_B = has_B * (world() / sum_over_ranks(has_B.sum()).clamp(min=1))
    query_BD = z_BD / temperature
    if inside:
        scores_BN = (query_BD @ key_ND.T).scatter(1, row_B[:, None], -torch.inf)
        positive_BN = (group_B[:, None] == group_N) & has_B.bool()[:, None]  # all rows of the others: 0, not infinity
        best_B = scores_BN.masked_fill(~positive_BN, -torch.inf).logsumexp(1) - others_B.clamp(min=1).log()
        return weight_B @ torch.where(has_B.bool(), scores_BN.logsumexp(1) - best_B, 0.0)
    total, _ = _LogSumExp.apply(query_BD, key_ND, None, row_B[:, None], weight_B, DTYPE[precision])
    return total - weight_B @ (query_BD * positive_BD).sum(1)


@without_autocast
def margin_pair(a_BD: Tensor, b_BD: Tensor, same_B: Tensor, margin: float = 1.0) -> tuple[Tensor, Tensor]:
    """The pair loss of DrLIM (Hadsell, Chopra, LeCun, CVPR 2006, eq. 4) -> (loss, share of negatives in the margin).

    L = mean_i 1/2 d_i^2 for the same thing, 1/2 max(0, m - d_i)^2 otherwise, d_i = |a_i - b_i|, rows not normalised.
    """
    square_B = (wide(a_BD) - wide(b_BD)).square().sum(1)
    distance_B = (square_B + 1e-12).sqrt()  # a finite slope where two points meet
    gap_B = F.relu(margin - distance_B)
    different_B = ~same_B.bool()
    inside = ((gap_B > 0) & different_B).sum() / different_B.sum().clamp(min=1)
    return 0.5 * torch.where(different_B, gap_B.square(), square_B).mean(), inside


def _squares(a_BD: Tensor, b_ND: Tensor) -> Tensor:
    """Squared distances (B, N), by products: exact to rounding of the squared lengths."""
    return (a_BD.square().sum(1)[:, None] + b_ND.square().sum(1) - 2 * a_BD @ b_ND.T).clamp(min=0)


@without_autocast
def margin_batch(a_BD: Tensor, b_BD: Tensor, margin: float = 1.0) -> tuple[Tensor, Tensor]:
    """`margin_pair` on all pairs of two views -> (loss, share of negatives in the margin).

    L = mean_i 1/2 |a_i - b_i|^2 + mean_{i != j} 1/2 max(0, m - |a_i - b_j|)^2, j over the rows of all ranks. A constant
    encoder has m^2 / 2.
    """
    a_BD, b_BD = wide(a_BD), wide(b_BD)
    key_ND = gather(b_BD)
    gap_BN = F.relu(margin - (_squares(a_BD, key_ND) + 1e-12).sqrt())
    gap_BN = gap_BN.scatter(1, _rows_of_rank(a_BD)[:, None], 0.0)
    negatives = max(1, len(a_BD) * (len(key_ND) - 1))
    loss = ((a_BD - b_BD).square().sum(1).mean() + gap_BN.square().sum() / negatives) / 2
    return loss, (gap_BN.detach() > 0).sum() / negatives


@without_autocast
def triplet(
    anchor_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor, margin: float = 0.2, squared: bool = True
) -> tuple[Tensor, Tensor]:
    """The triplet loss (Schroff, Kalenichenko, Philbin, CVPR 2015, eq. 3) -> (loss, share of triplets with a loss).

    L = mean_i max(0, |a_i - p_i|^2 - |a_i - n_i|^2 + margin); distances instead of squares with `squared=False`.
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        square_B = (wide(x) - wide(y)).square().sum(1)
        return square_B if squared else (square_B + 1e-12).sqrt()

    loss_B = F.relu(distance(anchor_BD, positive_BD) - distance(anchor_BD, negative_BD) + margin)
    return loss_B.mean(), (loss_B.detach() > 0).to(loss_B.dtype).mean()


@torch.no_grad()
def mine_negatives(
    anchor_BD: Tensor, positive_BD: Tensor, pool_KD: Tensor, allowed_BK: Tensor, margin: float | None = None
) -> Tensor:
    """The row of the pool that is each anchor's negative (B,): the hardest, that is the nearest one allowed.

    With a `margin` semi-hard ones go first (Schroff et al., section 3.2): farther than the positive, by less than it.
    """
    distance_BK = torch.cdist(wide(anchor_BD), wide(pool_KD)).square().masked_fill(~allowed_BK, torch.inf)
    if margin is None:
        return distance_BK.argmin(1)
    positive_B1 = (wide(anchor_BD) - wide(positive_BD)).square().sum(1, keepdim=True)
    semi_BK = (distance_BK > positive_B1) & (distance_BK < positive_B1 + margin)
    return torch.where(semi_BK.any(1), distance_BK.masked_fill(~semi_BK, torch.inf).argmin(1), distance_BK.argmin(1))


@without_autocast
def triplet_batch(
    anchor_BD: Tensor, positive_BD: Tensor, margin: float = 0.2, mining: str = "semi"
) -> tuple[Tensor, Tensor]:
    """`triplet` with negatives from the positives of other anchors, of all ranks -> (loss, share with a loss).

    mining  semi or hardest: one negative an anchor, see `mine_negatives`; all: the mean over all of them
    """
    if mining not in ("semi", "hardest", "all"):
        raise UserError(f"unknown mining '{mining}' (there are: semi, hardest, all)")
    anchor_BD, positive_BD = wide(anchor_BD), wide(positive_BD)
    pool_ND = gather(positive_BD)
    own_BN = _rows_of_rank(anchor_BD)[:, None] == torch.arange(len(pool_ND), device=pool_ND.device)
    if mining != "all":
        picked_B = mine_negatives(anchor_BD, positive_BD, pool_ND, ~own_BN, margin if mining == "semi" else None)
        return triplet(anchor_BD, positive_BD, pool_ND[picked_B], margin)
    near_B1 = (anchor_BD - positive_BD).square().sum(1, keepdim=True)
    loss_BN = F.relu(near_B1 - _squares(anchor_BD, pool_ND) + margin).masked_fill(own_BN, 0.0)
    triplets = max(1, len(anchor_BD) * (len(pool_ND) - 1))
    return loss_BN.sum() / triplets, (loss_BN.detach() > 0).sum() / triplets
