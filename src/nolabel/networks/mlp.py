"""Projection and prediction heads made of linear layers."""

from itertools import pairwise
from typing import Literal

from torch import nn


def mlp(
    *dims: int,
    norm: Literal["bn", "ln"] | None = "bn",
    last_norm: Literal["bn", "bn_noaffine"] | None = None,
    act: type[nn.Module] = nn.ReLU,
    bias: bool = True,
    last_bias: bool = True,
) -> nn.Sequential:
    """Linear layers of widths `dims` with normalisation and activation between them: (B, dims[0]) -> (B, dims[-1]).

    `mlp(2048, 2048, 128)` is the projector of SimCLR, `mlp(2048, 4096, 256)` that of BYOL, and
    `mlp(768, 4096, 4096, 256, last_norm="bn_noaffine")` that of MoCo v3. `mlp(a, b)` is one linear layer.
    A layer before a batch norm has no bias: the norm would subtract it again. `bias` is of the layers before the last.
    """
    if len(dims) < 2:
        raise ValueError(f"mlp needs at least an input and an output width, got {dims}")
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(dims[:-1]):
        layers += [nn.Linear(wide_in, wide_out, bias=bias and norm != "bn"), *_norm(norm, wide_out), act()]
    layers += [nn.Linear(dims[-2], dims[-1], bias=last_bias and last_norm is None), *_norm(last_norm, dims[-1])]
    return nn.Sequential(*layers)


def fully_connected(dim: int, hidden: int, dropout: float = 0.0) -> nn.Sequential:
    """The two wide layers behind the convolutions of AlexNet and VGG, without the last ReLU: (B, dim) -> (B, hidden).

    Nothing where `hidden` is 0.
    """
    if not hidden:
        return nn.Sequential()
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
    )


def _norm(name: str | None, dim: int) -> list[nn.Module]:
    match name:
        case None:
            return []
        case "bn":
            return [nn.BatchNorm1d(dim)]
        case "bn_noaffine":
            return [nn.BatchNorm1d(dim, affine=False)]
        case "ln":
            return [nn.LayerNorm(dim)]
    raise ValueError(f"norm must be bn, bn_noaffine, ln or None, not {name!r}")
