"""An encoder with its way into a space that it shares with encoders of other modalities."""

from typing import Any

from torch import Tensor, nn


class Tower(nn.Module):
    """`encoder` and a linear layer without bias: x -> (B, out), not normalised. `dim` is `out`."""

    def __init__(self, encoder: Any, out: int):
        super().__init__()
        self.encoder, self.dim = encoder, out
        self.project = nn.Linear(encoder.dim, out, bias=False)
        nn.init.normal_(self.project.weight, std=encoder.dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.encoder(x))  # type: ignore[no-any-return]
