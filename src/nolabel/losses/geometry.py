"""What shape a cloud of features has: collapse, rank and spread, without labels.

All take features (N, D) and give a 0-d tensor without gradient. They look at the rows they get and at nothing else:
gather the rows of all ranks first. The spectra are computed in fp64, because a collapsed spectrum is lost in fp32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def feature_std(z_ND: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation of unit rows, times sqrt(D): 1 when healthy, 0 when collapsed.

    (SimSiam: Chen, He, CVPR 2021, section 4.1.)
    """
    return F.normalize(z_ND.float(), dim=1).std(0, correction=0).mean() * z_ND.shape[1] ** 0.5


@torch.no_grad()
def mean_cosine(z_ND: Tensor) -> Tensor:
    """Mean cosine of two different rows, 1 when collapsed. In O(N D), for |sum_i z_i|^2 holds all pairs."""
    z_ND = F.normalize(z_ND.float(), dim=1)
    return (z_ND.sum(0).square().sum() - len(z_ND)) / (len(z_ND) * (len(z_ND) - 1))


def _spectrum(z_ND: Tensor) -> Tensor:
    """Eigenvalues of Z^T Z, descending, min(N, D) of them, from the smaller of the two Gram matrices."""
    z_ND = z_ND.double()
    gram = z_ND.T @ z_ND if len(z_ND) >= z_ND.shape[1] else z_ND @ z_ND.T
    return torch.linalg.eigvalsh(gram).clamp(min=0).flip(0)


def _effective(values: Tensor, eps: float) -> Tensor:
    """exp(-sum_k p_k ln p_k), p = values / sum + eps: how many of the values count."""
    p = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + eps
    return torch.exp(-(p * p.log()).sum())


@torch.no_grad()
def rankme(z_ND: Tensor, eps: float = 1e-7) -> Tensor:
    """RankMe (Garrido, Balestriero, Najman, LeCun, ICML 2023, eq. 1-2): effective rank by singular values, not centred.

    From 1 (collapsed) to min(N, D). Meant for many rows, 25600 in the paper; compares runs of one method.
    """
    return _effective(_spectrum(z_ND).sqrt(), eps)


effective_rank = rankme
"""Roy and Vetterli, EUSIPCO 2007: the same number by its first name."""


@torch.no_grad()
def alpha_req(z_ND: Tensor, first: int = 5, last: int = 100) -> Tensor:
    """alpha-ReQ (Agrawal, Mondal, Ghosh, Richards, NeurIPS 2022): the decay of the spectrum of the centred features.

    Fits ln lambda_i = -alpha ln i + c over i = first ... last, weighted by 1/i. Best near 1; above collapsed.
    """
    return decay(_spectrum(z_ND.double() - z_ND.double().mean(0)), first, last)


@torch.no_grad()
def decay(values: Tensor, first: int = 5, last: int = 100) -> Tensor:
    """alpha of the power law i^-alpha through descending values number `first` to `last`, counted from 1."""
    last = min(last, len(values))
    i = torch.arange(first, last + 1, dtype=values.dtype, device=values.device)
    x, y = i.log(), values[first - 1 : last].clamp(min=torch.finfo(values.dtype).tiny).log()
    weight = (1 / i) / (1 / i).sum()
    x, y = x - weight @ x, y - weight @ y
    return -(weight @ (x * y)) / (weight @ x.square())


@torch.no_grad()
def lidar(z_NQD: Tensor, delta: float = 1e-4, eps: float = 1e-7) -> Tensor:
    """LiDAR (Thilak et al., ICLR 2024, eq. 1-4) of Q views each of N images: how many directions tell images apart.

    Effective rank of S_w^-1/2 S_b S_w^-1/2: the scatter of the images' means, whitened by that of the views within an
    image (+ delta I). Raises ValueError for one view.
    """
    n, q, d = z_NQD.shape
    if q < 2:
        raise ValueError("LiDAR needs at least two views of each image")
    z_NQD = z_NQD.double()
    mean_ND = z_NQD.mean(1)
    between_ND = mean_ND - mean_ND.mean(0)
    within_MD = (z_NQD - mean_ND[:, None]).reshape(-1, d)
    within_DD = within_MD.T @ within_MD / (n * (q - 1)) + delta * torch.eye(d, dtype=torch.double, device=z_NQD.device)
    values, vectors_DD = torch.linalg.eigh(within_DD)
    whitened_ND = between_ND @ (vectors_DD * values.rsqrt())
    return _effective(_spectrum(whitened_ND), eps)


@torch.no_grad()
def alignment(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Mean squared distance of two views as unit rows (Wang, Isola, ICML 2020, section 4.1), from 0 to 4."""
    return (F.normalize(a_ND.float(), dim=1) - F.normalize(b_ND.float(), dim=1)).square().sum(1).mean()


@torch.no_grad()
def uniformity(z_ND: Tensor, t: float = 2.0, block: int = 1024) -> Tensor:
    """ln of the mean of exp(-t |z_i - z_j|^2) over pairs i < j of unit rows (Wang, Isola, ICML 2020, section 4.1).

    0 when collapsed; -4 + 8 / D or so for many rows spread evenly. By blocks: memory O(block N).
    """
    z_ND = F.normalize(z_ND.float(), dim=1)
    n = len(z_ND)
    total = torch.zeros((), dtype=torch.double, device=z_ND.device)
    for rows in z_ND.split(block):
        total += (rows @ z_ND.T).sub_(1).mul_(2 * t).exp_().sum(dtype=torch.double)
    own = (2 * t * (z_ND.square().sum(1) - 1)).exp().sum(dtype=torch.double)
    return ((total - own) / (n * (n - 1))).log()
