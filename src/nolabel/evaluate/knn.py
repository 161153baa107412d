"""k-NN: weighted cosine nearest neighbours, the evaluation without any training.

Wu, Xiong, Yu, Lin. Unsupervised Feature Learning via Non-Parametric Instance Discrimination. CVPR 2018, section 3.4.
arXiv:1805.01978. k = 20 as Caron et al. (DINO, ICCV 2021) report it.

    s_ij = n(f_i) . n(g_j),    score_ic = sum over the k nearest j with y_j = c of exp(s_ij / T),    prediction argmax_c

The bank is the training split under the plain transform. The number of classes comes from the training labels, k is at
most the size of the bank, and classes that tie go to the lower class number. Neighbours of exactly equal similarity at
rank k are interchangeable, so with copies in the bank either may vote.

Speed: where the CPU multiplies bfloat16 natively, a bfloat16 product proposes candidates and float32 decides. Every
query carries a certificate that no row outside its candidates can belong to the float32 answer; a query without one is
searched again in float32. So both paths give the same neighbours.

Shapes: Q queries, N bank rows, D features, K neighbours, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.evaluate.features import EvalData, fast_bf16

_QUERIES, _ROWS = 256, 65_536
"""block sizes: a block of similarities holds at most 64 MiB in float32"""
_GROUP, _ALIGN = 16, 32
"""rows per group in the candidate search; the vectors it reduces are multiples of `_ALIGN` long"""


@dataclass(frozen=True)
class KNN:
    """Accuracy in percent of the weighted k-NN classifier: `top1`, and `top5` where there are more than 5 classes."""

    k: int = 20
    temperature: float = 0.07
    """T; infinity is the plain majority vote"""

    name: ClassVar[str] = "knn"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Test features against the bank of training features."""
        bank_ND, y_N = data.features(encoder, "train").labelled()
        queries_QD, y_Q = data.features(encoder, "test").labelled()
        return self.accuracy(*(t.to(data.device) for t in (bank_ND, y_N, queries_QD, y_Q)))

    def accuracy(self, bank_ND: Tensor, y_N: Tensor, queries_QD: Tensor, y_Q: Tensor) -> dict[str, float]:
        """Accuracies in percent of queries with true labels y_Q against a labelled bank."""
        return top_accuracy(self.votes(bank_ND, y_N, queries_QD), y_Q)

    def votes(self, bank_ND: Tensor, y_N: Tensor, queries_QD: Tensor) -> Tensor:
        """The score of every class (Q, C), float64, up to a positive factor per query."""
        s_QK, rows_QK = nearest(bank_ND, queries_QD, self.k)
        # relative to the nearest neighbour, so that a small temperature cannot overflow
        weight_QK = ((s_QK - s_QK[:, :1]) / self.temperature).double().exp()
        score_QC = weight_QK.new_zeros(len(queries_QD), int(y_N.max()) + 1)
        return score_QC.scatter_add_(1, y_N[rows_QK], weight_QK)


def top_accuracy(score_QC: Tensor, y_Q: Tensor) -> dict[str, float]:
    """Top-1 (and top-5 above 5 classes) in percent; equal scores go to the lower class.

    Classes without a score, and scores that are not a number, count as errors.
    """
    classes = score_QC.shape[1]
    inside_Q1 = y_Q.clamp(max=classes - 1)[:, None]
    own_Q1 = score_QC.gather(1, inside_Q1)
    lower_QC = torch.arange(classes, device=y_Q.device) < inside_Q1
    rank_Q = ((score_QC > own_Q1) | ((score_QC == own_Q1) & lower_QC)).sum(1)
    rank_Q[(y_Q >= classes) | own_Q1[:, 0].isnan()] = classes
    tops = (1, 5) if classes > 5 else (1,)
    return {f"top{n}": 100 * (rank_Q < n).double().mean().item() for n in tops}


@torch.no_grad()
def nearest(bank_ND: Tensor, queries_QD: Tensor, k: int, bf16: bool | None = None) -> tuple[Tensor, Tensor]:
    """The k most similar bank rows of each query, best first: cosines (Q, K) in float32 and row numbers (Q, K).

    Memory beyond the inputs is one block of bank rows, one block of similarities and the answer. `bf16` forces the
    candidate search on or off; by default it runs where it is faster.
    """
    k = min(k, len(bank_ND))
    # accelerators multiply float32 fast enough, and their top-k is the larger cost
    bf16 = (bank_ND.device.type == "cpu" and fast_bf16("cpu")) if bf16 is None else bf16
    q_QD = F.normalize(queries_QD.float(), dim=1)
    best_QK = q_QD.new_full((len(q_QD), k), -torch.inf)
    rows_QK = torch.zeros(len(q_QD), k, dtype=torch.long, device=q_QD.device)
    with _full_precision():
        for start in range(0, len(bank_ND), _ROWS):
            block = _Block(bank_ND[start : start + _ROWS], k, bf16)
            s_QJ, found_QJ = block.search(q_QD, floor_Q=best_QK[:, -1])
            best_QK, keep_QK = torch.cat((best_QK, s_QJ), 1).topk(k)
            rows_QK = torch.cat((rows_QK, found_QJ + start), 1).gather(1, keep_QK)
    return best_QK, rows_QK


class _Block:
    """Rows of the bank with their lengths, and with a bfloat16 image where that pays.

    The image is normalised and centred on the mean row m: q.m shifts all similarities of a query alike, so the order
    stays, while the rounding errors shrink with |x - m|. Features after a ReLU all point much the same way, so that
    matters.
    """

    def __init__(self, rows_ND: Tensor, k: int, bf16: bool) -> None:
        self.x_ND = rows_ND.float()
        self.inverse_N = 1 / self.x_ND.norm(dim=1).clamp(min=1e-12)
        self.k = min(k, len(rows_ND))
        self.candidates = self.k + self.k // 3 + 20
        self.bf16 = bf16 and len(rows_ND) >= 2 * _GROUP * self.candidates
        if self.bf16:
            self._make_image()

    def _make_image(self) -> None:
        n, d = self.x_ND.shape
        self.image_ND = self.x_ND.new_empty(n + -n % (_GROUP * _ALIGN), d, dtype=torch.bfloat16)
        self.image_ND[n:] = 0
        self.similarity_QN = self.image_ND.new_empty(_QUERIES, len(self.image_ND))
        self.mean_D = self.inverse_N @ self.x_ND / n
        self.radius = self.rounding = self.x_ND.new_zeros(())
        for i in range(0, n, 1024):  # in the cache
            part = slice(i, min(i + 1024, n))
            centred_BD = (self.x_ND[part] * self.inverse_N[part, None]).sub_(self.mean_D)
            self.image_ND[part] = centred_BD
            self.radius = torch.maximum(self.radius, centred_BD.norm(dim=1).max())
            self.rounding = torch.maximum(self.rounding, centred_BD.sub_(self.image_ND[part]).norm(dim=1).max())

    def search(self, q_QD: Tensor, floor_Q: Tensor) -> tuple[Tensor, Tensor]:
        """The J = min(k, N) best rows for each query: cosines (Q, J), row numbers (Q, J), unordered.

        Rows that do not beat `floor_Q`, the k-th best of earlier blocks, may be missing.
        """
        s_QJ = q_QD.new_empty(len(q_QD), self.k)
        rows_QJ = torch.empty_like(s_QJ, dtype=torch.long)
        open_Q = torch.ones_like(floor_Q, dtype=torch.bool)
        if self.bf16:
            for i in range(0, len(q_QD), _QUERIES):
                part = slice(i, i + _QUERIES)
                s_QJ[part], rows_QJ[part], open_Q[part] = self._by_candidates(q_QD[part], floor_Q[part])
                if open_Q[part].double().mean() > 0.3:
                    break  # features too dense for bfloat16 (a collapsed encoder): do not pay twice
        for queries in open_Q.nonzero()[:, 0].split(_QUERIES):
            s_QJ[queries], rows_QJ[queries] = self._exact(q_QD[queries])
        return s_QJ, rows_QJ

    def _by_candidates(self, q_QD: Tensor, floor_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `search`, and which queries stay open (Q,): there another row might belong to the answer."""
        q16_QD = q_QD.bfloat16()
        s16_QM, rows_QM = self._candidates(q16_QD)
        s_QJ, keep_QJ = self._cosines(q_QD, rows_QM).topk(self.k)
        # Rows left out have a bfloat16 score of at most that of the worst candidate. Cauchy-Schwarz bounds what
        # rounding the inputs took from them; the rest is the rounding of the result and of its float32 sum.
        worst_Q = s16_QM.amin(1)
        error_Q = self.rounding + (q_QD - q16_QD.float()).norm(dim=1) * self.radius
        error_Q += worst_Q.abs() * 2**-8 + self.radius * q_QD.shape[1] * 2**-22
        open_Q = worst_Q + error_Q + q_QD @ self.mean_D >= torch.maximum(s_QJ[:, -1], floor_Q)
        return s_QJ, rows_QM.gather(1, keep_QJ), open_Q

    def _exact(self, q_QD: Tensor) -> tuple[Tensor, Tensor]:
        """As `search`, all in float32."""
        return _largest((q_QD @ self.x_ND.T).mul_(self.inverse_N), self.k)

    def _cosines(self, q_QD: Tensor, rows_QM: Tensor) -> Tensor:
        """Float32 cosines (Q, M) of each query with rows of its own."""
        # a few queries at a time stay in the cache; a batched matrix-vector product is 7 times slower
        parts = zip(q_QD.split(16), rows_QM.split(16))
        dots = [self.x_ND.index_select(0, r.flatten()).view(*r.shape, -1).mul_(q[:, None]).sum(2) for q, r in parts]
        return torch.cat(dots).mul_(self.inverse_N[rows_QM])

    def _candidates(self, q16_QD: Tensor) -> tuple[Tensor, Tensor]:
        """M rows with the largest bfloat16 scores, unordered: scores (Q, M) as float32, row numbers (Q, M)."""
        s_QN = torch.mm(q16_QD, self.image_ND.T, out=self.similarity_QN[: len(q16_QD)])
        s_QN[:, len(self.x_ND) :] = -torch.inf
        return _largest(s_QN, self.candidates)


def _largest(s_QN: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest of each row, unordered: values (Q, m) as float32, columns (Q, m). Faster than topk where m << N.

    They lie in the m groups with the largest maxima, found in the same way, so that topk sees few of the columns.
    """
    q, n = s_QN.shape
    if n < 2 * _GROUP * m:
        return s_QN.float().topk(m, sorted=False)
    if n % _GROUP:
        s_QN = F.pad(s_QN, (0, -n % _GROUP), value=-torch.inf)
        n = s_QN.shape[1]
    # a group takes one column of each of 16 slices, so that the maximum runs over long contiguous vectors
    size = n // _GROUP
    _, groups_Qm = _largest(s_QN.view(q, _GROUP, size).amax(1), m)
    columns_QR = (groups_Qm[:, None] + size * torch.arange(_GROUP, device=s_QN.device)[:, None]).flatten(1)
    flat_QR = columns_QR + n * torch.arange(q, device=s_QN.device)[:, None]
    s_Qm, keep_Qm = (
        s_QN.view(-1).index_select(0, flat_QR.flatten()).view(columns_QR.shape).float().topk(m, sorted=False)
    )
    return s_Qm, columns_QR.gather(1, keep_Qm)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 products in float32, whatever the run chose (TensorFloat-32 would change neighbours)."""
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
