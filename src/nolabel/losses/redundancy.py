"""Losses on the statistics of the batch: Barlow Twins, VICReg, SIGReg (LeJEPA).

Shapes: B samples of this rank, N of all ranks, D embedding, V views, S directions.
Ranks: means, variances and covariances are those of the global batch, on every rank.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.dist import gather, mean_over_ranks, sum_over_ranks, world
from nolabel.losses.precision import wide, without_autocast

Parts = dict[str, Tensor]


class _Columns(torch.autograd.Function):
    """sum_{i != j} C_ij^2 and diag(C) of C = A^T B (D, D) of all ranks; B = None stands for A.

    With G = dL / dC, which is the gradient of the diagonal there and 2 C elsewhere: dA = B G^T and dB = A G.
    """

    @staticmethod
    def forward(ctx: Any, a_BD: Tensor, b_BD: Tensor | None) -> tuple[Tensor, Tensor]:
        c_DD = sum_over_ranks(a_BD.T @ (a_BD if b_BD is None else b_BD))
        diagonal_D = c_DD.diagonal().clone()
        ctx.save_for_backward(a_BD, b_BD, c_DD.fill_diagonal_(0))
        return c_DD.square().sum(), diagonal_D

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor | None]:
        a_BD, b_BD, c_DD = ctx.saved_tensors
        times = 2 if b_BD is None else 1
        g_DD = c_DD * (2 * times * sum_over_ranks(outer[0]))
        g_DD.diagonal().copy_(times * sum_over_ranks(outer[1]))
        return (a_BD if b_BD is None else b_BD) @ g_DD.T, None if b_BD is None else a_BD @ g_DD


class _Rows(torch.autograd.Function):
    """sum_ij (A^T B)_ij^2 = <L, R> of L = A A^T, R = B B^T (N, N): dA = 2 R A and dB = 2 L B. B = None stands for A."""

    @staticmethod
    def forward(ctx: Any, a_ND: Tensor, b_ND: Tensor | None) -> Tensor:
        left_NN = a_ND @ a_ND.T
        right_NN = left_NN if b_ND is None else b_ND @ b_ND.T
        ctx.save_for_backward(a_ND, b_ND, left_NN, right_NN)
        return (left_NN * right_NN).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor | None]:
        a_ND, b_ND, left_NN, right_NN = ctx.saved_tensors
        twice = 2 * outer[0]
        if b_ND is None:
            return (right_NN @ a_ND).mul_(2 * twice), None
        return (right_NN @ a_ND).mul_(twice), (left_NN @ b_ND).mul_(twice)


def _powers(a_BD: Tensor, b_BD: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """sum_{i != j} C_ij^2 and diag(C) (D,) of C = A^T B over the rows of all ranks, by the smaller of two matrices; of
    A^T A without `b_BD`.

    With fewer rows than columns the diagonal is subtracted. It cannot hide the rest: a matrix of rank N < D spreads.
    """
    if len(a_BD) * world() >= a_BD.shape[1]:
        return _Columns.apply(a_BD, b_BD)
    diagonal_D = sum_over_ranks((a_BD * (a_BD if b_BD is None else b_BD)).sum(0))
    power = _Rows.apply(gather(a_BD), None if b_BD is None else gather(b_BD)) - diagonal_D.square().sum()
    return power, diagonal_D


def _centred(x_BD: Tensor) -> Tensor:
    return x_BD - mean_over_ranks(x_BD.mean(0))


@without_autocast
def barlow_twins(a_BD: Tensor, b_BD: Tensor, lambda_: float = 0.0051, eps: float = 1e-5) -> tuple[Tensor, Parts]:
    """Barlow Twins (Zbontar, Jing, Misra, LeCun, Deny, ICML 2021, eq. 1-2) -> (loss, parts).

    L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, C = A^T B / N, views standardised over the batch (biased).
    A constant encoder has C = 0 and loss D. Parts: mean of the diagonal, root mean square of the rest.
    """

    def standardised(x_BD: Tensor) -> Tensor:
        if world() == 1:
            return F.batch_norm(wide(x_BD), None, None, training=True, eps=eps)  # the same in one pass
        x_BD = _centred(wide(x_BD))
        return x_BD * (mean_over_ranks(x_BD.square().mean(0)) + eps).rsqrt()

    a_BD, b_BD = standardised(a_BD), standardised(b_BD)
    rows, dim = len(a_BD) * world(), a_BD.shape[1]
    rest, diagonal_D = _powers(a_BD, b_BD)
    rest, diagonal_D = rest / rows**2, diagonal_D / rows
    parts = {
        "on_diagonal": diagonal_D.detach().mean(),
        "off_diagonal": (rest.detach().clamp(min=0) / max(1, dim * (dim - 1))).sqrt(),
    }
    return (1 - diagonal_D).square().sum() + lambda_ * rest, parts


@without_autocast
def vicreg(
    a_BD: Tensor,
    b_BD: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> tuple[Tensor, Parts]:
    """VICReg (Bardes, Ponce, LeCun, ICLR 2022, eq. 6) -> (loss, parts), scaled as in the authors' code.

    L = 25 mean((a - b)^2) + 25 / 2 (v(a) + v(b)) + c(a) + c(b), v(x) = mean_j max(0, 1 - sqrt(Var x_j + eps)),
    c(x) = 1/D sum_{i != j} Cov(x)_ij^2, variances divided by N - 1. The paper's text sums the first term over D
    instead of taking the mean and has no half on v. A constant encoder has 24.75. Parts: the three terms and `std`.
    """
    a_BD, b_BD = wide(a_BD), wide(b_BD)
    rows, dim = len(a_BD) * world(), a_BD.shape[1]
    parts = {
        "invariance": F.mse_loss(a_BD, b_BD),
        "variance": a_BD.new_zeros(()),
        "covariance": a_BD.new_zeros(()),
        "std": a_BD.new_zeros(()),
    }
    for x_BD in (_centred(a_BD), _centred(b_BD)):
        std_D = (sum_over_ranks(x_BD.square().sum(0)) / (rows - 1) + eps).sqrt()
        parts["std"] = parts["std"] + std_D.detach().mean() / 2
        parts["variance"] = parts["variance"] + F.relu(1 - std_D).mean() / 2
        parts["covariance"] = parts["covariance"] + _powers(x_BD)[0] / ((rows - 1) ** 2 * dim)
    loss = invariance * parts["invariance"] + variance * parts["variance"] + covariance * parts["covariance"]
    return loss, {name: part.detach() for name, part in parts.items()}


def directions(dim: int, count: int, rng: torch.Generator) -> Tensor:
    """Unit vectors (dim, count), uniform on the sphere, on the device of `rng`, which is to be alike on all ranks."""
    return F.normalize(torch.randn(dim, count, generator=rng, device=rng.device), dim=0)


class _EppsPulley(torch.autograd.Function):
    """mean_vs N sum_k w_k |mean_b exp(i t_k x_vbs) - exp(-t_k^2 / 2)|^2, the gradient made in the forward.

    cos and sin of t_k x are turned on by the angle t_1 x from knot to knot: two of them are computed instead of 2K, and
    no tensor (K, V, B, S) is kept. The means are those of all ranks.
    """

    @staticmethod
    def forward(ctx: Any, x_VBS: Tensor, knots: int, reach: float) -> Tensor:
        views, rows, slices = x_VBS.shape
        step = reach / (knots - 1)
        t_K = step * torch.arange(1, knots, dtype=x_VBS.dtype, device=x_VBS.device)  # at t = 0 both sides are one
        target_K = torch.exp(-t_K.square() / 2)
        weight_K = 2 * step * target_K  # both halves of the real line, by trapezoids
        weight_K[-1] /= 2

        def turns(x_BS: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            cos_1, sin_1 = torch.cos(x_BS * step), torch.sin(x_BS * step)
            cos, sin = cos_1, sin_1
            yield cos, sin
            for _ in range(knots - 2):
                cos, sin = (cos * cos_1).addcmul_(sin, sin_1, value=-1), (sin * cos_1).addcmul_(cos, sin_1)
                yield cos, sin

        sums = torch.stack([torch.stack([torch.stack((c.sum(0), s.sum(0))) for c, s in turns(x)]) for x in x_VBS])
        count = rows * world()
        real_VKS, imag_VKS = (sum_over_ranks(sums) / count).unbind(2)
        real_VKS -= target_K[:, None]
        distance = weight_K[:, None] * (real_VKS.square() + imag_VKS.square())

        if ctx.needs_input_grad[0]:
            grad = torch.zeros_like(x_VBS)
            slope_K1 = 2 * (weight_K * t_K)[:, None] / (views * slices)
            for view, x_BS in enumerate(x_VBS):
                up_KS, down_KS = imag_VKS[view] * slope_K1, real_VKS[view] * slope_K1
                for (cos, sin), up, down in zip(turns(x_BS), up_KS, down_KS):
                    grad[view].addcmul_(cos, up).addcmul_(sin, down, value=-1)
            ctx.save_for_backward(grad)
        return distance.sum() * (count / (views * slices))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * sum_over_ranks(outer[0]), None, None


@without_autocast
def sigreg(z_VBD: Tensor, direction_DS: Tensor, knots: int = 17, reach: float = 3.0) -> Tensor:
    """SIGReg, the regulariser of LeJEPA (Balestriero, LeCun, 2025, section 4): each view an isotropic Gaussian.

    Mean over views and directions of the Epps-Pulley statistic of the projections x = z . a,
    N int |mean_b exp(i t x_b) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt over [-reach, reach], trapezoids with `knots` on one half.
    1.0525 for Gaussian samples whatever N, 0.40205 N for zeros. Linear in B, D and S. `direction_DS`: unit columns, see
    `directions`. The value is that of the global batch, on every rank.
    """
    return _EppsPulley.apply(wide(z_VBD) @ direction_DS.to(wide(z_VBD).dtype), knots, reach)
