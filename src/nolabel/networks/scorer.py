"""The embeddings whose products score pairs of summaries and places: Deep InfoMax, AMDIM."""

from typing import Literal

from torch import Tensor, nn

from nolabel.networks.mlp import mlp


class Scorer(nn.Module):
    """Rows (..., D) -> (..., units): two layers and a shortcut that starts as the identity, then a norm.

    On the places of a feature map it is the residual block of 1 x 1 convolutions of Deep InfoMax (Hjelm et al., ICLR
    2019, appendix A.2), with layer norm, and of AMDIM (Bachman et al., NeurIPS 2019), with batch norm.
    """

    def __init__(self, dim: int, units: int, norm: Literal["ln", "bn"] = "ln"):
        super().__init__()
        self.block = mlp(dim, units, units)
        self.shortcut = nn.Linear(dim, units, bias=False)
        nn.init.eye_(self.shortcut.weight)
        self.norm = nn.LayerNorm(units) if norm == "ln" else nn.BatchNorm1d(units)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        return self.norm(self.block(rows) + self.shortcut(rows)).unflatten(0, x.shape[:-1])
