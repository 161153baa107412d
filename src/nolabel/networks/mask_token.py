"""A learned token in the place of what is hidden: BEiT, SimMIM, iBOT, data2vec."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class MaskToken(nn.Module):
    """The tokens of an input with one learned vector, at its position, wherever the mask is True (Devlin et al. 2019).

    What a place looks like without content is taken from the encoder itself: the embedding of an input of zeros, which
    is positions and bias. So the encoder sees nothing of what is hidden, whatever positions it has.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(nn.init.normal_(torch.empty(dim), std=0.02))

    def forward(self, encoder: Any, x: Tensor, mask_BL: Tensor) -> Tensor:
        """Input of a TokenEncoder and mask (B, L) or (B, *grid) -> tokens (B, L, D) for its `encode`."""
        norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.training]
        for norm in norms:  # an input of zeros is no sample for running statistics
            norm.eval()
        blank_1LD = encoder.embed(torch.zeros_like(x[:1]))
        for norm in norms:
            norm.train()
        return torch.where(mask_BL.flatten(1)[..., None], self.token + blank_1LD, encoder.embed(x))
