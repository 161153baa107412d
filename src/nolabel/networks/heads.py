"""The head of the self-distillation family: DINO, iBOT, DINOv2, EsViT, Mugs."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.networks.mlp import mlp


def quiet(module: nn.Module) -> None:
    """Start a linear layer from a truncated normal of deviation 0.02 and zero bias; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Prototypes(nn.Module):
    """K directions to compare with: x (..., D) -> (..., K) dot products with the rows of a weight-normalised matrix.

    Row k is g_k v_k / |v_k| (Salimans and Kingma, NeurIPS 2016). With `fixed_gain` g = 1, so unit inputs give cosines.
    Weight norm is written out because it is the point of the layer, and so that `v` is an ordinary parameter. The
    products are float32 under autocast, too: temperatures multiply what bf16 leaves out by ten and more.
    """

    def __init__(self, dim: int, out: int, fixed_gain: bool = True):
        super().__init__()
        self.v = nn.Linear(dim, out, bias=False).weight  # starts as torch's linear layer does, which DINO wraps
        self.g = None if fixed_gain else nn.Parameter(torch.ones(out, 1))

    @property
    def weight(self) -> Tensor:
        """The normalised rows (K, D)."""
        unit_KD = F.normalize(self.v, dim=1)
        return unit_KD if self.g is None else self.g * unit_KD

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight)


class DINOHead(nn.Module):
    """Features (..., dim) -> logits (..., out) over prototypes (Caron et al., ICCV 2021, arXiv 2104.14294, sec. 3.1).

    An MLP with GELU to a narrow bottleneck, projected on the unit sphere, then `last`, the prototypes. With
    `norm_last` the logits are cosines in [-1, 1]; without it the gain of each prototype is learned. A method freezes
    the prototypes for some time by `hold_prototypes`. `norm="bn"` is for ResNets and wants (B, dim).
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 2048,
        bottleneck: int = 256,
        out: int = 65536,
        layers: int = 3,
        norm: Literal["bn"] | None = None,
        norm_last: bool = True,
    ):
        super().__init__()
        self.mlp = mlp(dim, *[hidden] * (layers - 1), bottleneck, norm=norm, act=nn.GELU)
        self.last = Prototypes(bottleneck, out, fixed_gain=norm_last)
        self.mlp.apply(quiet)

    def hold_prototypes(self) -> None:
        """Drop the gradients of the prototypes, between backward and optimiser step."""
        for p in self.last.parameters():
            p.grad = None

    def embed(self, x: Tensor) -> Tensor:
        """The unit vectors (..., bottleneck) that are compared with the prototypes."""
        # In fp32 under autocast: a bf16 vector is off the sphere by up to 0.4 %, which the temperature multiplies.
        return F.normalize(self.mlp(x).float(), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embed(x))
