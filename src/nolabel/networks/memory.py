"""Features kept from earlier steps: a queue (MoCo, NNCLR, SwAV) and a bank with one row a sample (NPID, PIRL, AVID).

All state is in buffers, changed in place without gradient, alike on all ranks and without waiting for the device.
Shapes: K rows, D embedding, B samples of this rank, N of all ranks.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core.dist import gather

BLOCK = {"cpu": 2**20}
"""scores of one block of a look-up by device type; 2**26 elsewhere"""


def _unit_rows(size: int, dim: int, dtype: torch.dtype) -> Tensor:
    return F.normalize(torch.randn(size, dim), dim=1).to(dtype)


@torch.no_grad()
def nearest_rows(z_BD: Tensor, rows_KD: Tensor) -> Tensor:
    """Numbers of the rows with the largest product with each z (B,), by blocks and in the dtype of the rows."""
    z_BD = z_BD.to(rows_KD.dtype)
    block = max(1, BLOCK.get(z_BD.device.type, 2**26) // len(z_BD))
    scores = z_BD.new_empty(len(z_BD) * min(block, len(rows_KD)))
    best_B = z_BD.new_full((len(z_BD),), -torch.inf)
    index_B = torch.zeros(len(z_BD), dtype=torch.long, device=z_BD.device)
    for start in range(0, len(rows_KD), block):
        part = rows_KD[start : start + block]
        scores_BP = torch.mm(z_BD, part.T, out=scores[: len(z_BD) * len(part)].view(len(z_BD), len(part)))
        value_B, found_B = scores_BP.max(1)
        index_B = torch.where(value_B > best_B, found_B + start, index_B)
        best_B = torch.maximum(best_B, value_B)
    return index_B


@torch.no_grad()
def agreeing_rows(a_KD: Tensor, b_KD: Tensor, count: int, rows: slice = slice(None)) -> Tensor:
    """For each of some `rows` the `count` others that are nearest by both banks (R, count): the largest min(a a', b b').

    Cross-modal agreement (Morgado, Vasconcelos, Misra, CVPR 2021, section 3.3).
    """
    index_R = torch.arange(len(a_KD), device=a_KD.device)[rows]
    found = [index_R.new_zeros(0, count)]
    for part_P in index_R.split(max(1, BLOCK.get(a_KD.device.type, 2**26) // len(a_KD))):
        both_PK = torch.minimum(a_KD[part_P] @ a_KD.T, b_KD[part_P] @ b_KD.T)
        found.append(both_PK.scatter_(1, part_P[:, None], -torch.inf).topk(count).indices)
    return torch.cat(found)


class Queue(nn.Module):
    """First in, first out: the last `size` unit rows of all ranks. Random unit rows at the start.

    `rows` (size, dim) is the bank as it lies in memory; its order does not matter to a softmax or a look-up. With
    `dtype=torch.bfloat16` it takes half the memory and the products with it are made in bf16. With `unit=False` rows
    keep their length (the visual words of OBoW).
    """

    rows: Tensor
    seen: Tensor
    """rows taken so far; the next one goes to `seen % size`"""

    def __init__(self, size: int, dim: int, dtype: torch.dtype = torch.float32, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        self.register_buffer("rows", _unit_rows(size, dim, dtype))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, x_BD: Tensor) -> None:
        """Take this step's rows of all ranks, normalised, in rank order, in place of the oldest."""
        size = len(self.rows)
        x_BD = x_BD.detach().float()
        new_ND = gather(F.normalize(x_BD, dim=1) if self.unit else x_BD)
        self.seen += max(0, len(new_ND) - size)
        new_ND = new_ND[-size:]
        place_N = (self.seen + torch.arange(len(new_ND), device=new_ND.device)) % size
        self.rows.index_copy_(0, place_N, new_ND.to(self.rows.dtype))
        self.seen += len(new_ND)

    def ordered(self) -> Tensor:
        """A copy of the rows, oldest first."""
        return self.rows[(self.seen + torch.arange(len(self.rows), device=self.rows.device)) % len(self.rows)]

    @torch.no_grad()
    def nearest(self, z_BD: Tensor) -> Tensor:
        """The row most like each z (B, D), in the dtype of z; no gradient and no update."""
        return self.rows[nearest_rows(F.normalize(z_BD.float(), dim=1), self.rows)].to(z_BD.dtype)


@cache
def partition(dim: int, temperature: float) -> float:
    """Z / n of noise-contrastive estimation (Wu, Xiong, Yu, Lin, CVPR 2018, eq. 8): the mean of exp(b . v / tau).

    They estimate it once, from the first batch, when their rows are random: this is its expectation over a random unit b
    in `dim` dimensions, 0F1(; D / 2; 1 / (2 tau)^2) as a series, 2.21 for 128 dimensions and tau 0.07. Rows of an untrained
    net are all alike; with the constant of those (1e5) nothing would be pushed apart.
    """
    total = term = 1.0
    count = 0
    while term > 1e-12 * total:
        count += 1
        term /= (2 * temperature) ** 2 * count * (dim / 2 + count - 1)
        total += term
    return total


class MemoryBank(nn.Module):
    """One unit row for each of `size` samples, a running average: b_i <- n(momentum b_i + (1 - momentum) v_i).

    Instance discrimination (Wu, Xiong, Yu, Lin, CVPR 2018, section 3.1); `momentum` 0.5 as in their code.
    """

    rows: Tensor

    def __init__(self, size: int, dim: int, momentum: float = 0.5, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", _unit_rows(size, dim, dtype))

    def forward(self, index: Tensor) -> Tensor:
        """A copy of the rows of these samples: index (...) -> (..., D) in fp32."""
        return self.rows[index].float()

    @torch.no_grad()
    def update(self, index_B: Tensor, x_BD: Tensor) -> None:
        """Move the rows of this step's samples of all ranks. A sample that came twice keeps one of its two values."""
        index_N, new_ND = gather(index_B), gather(F.normalize(x_BD.detach().float(), dim=1))
        mixed_ND = self.rows[index_N].float().lerp_(new_ND, 1 - self.momentum)
        self.rows.index_copy_(0, index_N, F.normalize(mixed_ND, dim=1).to(self.rows.dtype))

    def others(self, index_B: Tensor, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Numbers (B, count) of rows drawn uniformly, never a sample's own."""
        draw_BC = torch.randint(len(self.rows) - 1, (len(index_B), count), generator=rng, device=index_B.device)
        return draw_BC + (draw_BC >= index_B[:, None])

    def draw(self, count: int) -> Tensor | slice:
        """`count` different row numbers, one set for the whole batch; all rows for 0 and where there are no more."""
        if not 0 < count < len(self.rows):
            return slice(None)
        return torch.randperm(len(self.rows), device=self.rows.device)[:count]

    @torch.no_grad()
    def noise(self, drawn: Tensor | slice, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """The drawn rows (K, D), and where the rows of `index` stand among them, in its shape, -1 for who does not.

        Of each sample's own number (B,), or of all numbers that it must not meet (B, S).
        """
        if isinstance(drawn, slice):
            return self.rows, index_B
        places = torch.full((len(self.rows),), -1, device=drawn.device)
        return self.rows[drawn], places.index_copy_(0, drawn, torch.arange(len(drawn), device=drawn.device))[index_B]

    @torch.no_grad()
    def nearest(self, z_BD: Tensor) -> Tensor:
        """The row most like each z (B, D), in the dtype of z; no gradient and no update."""
        return self.rows[nearest_rows(F.normalize(z_BD.float(), dim=1), self.rows)].to(z_BD.dtype)
