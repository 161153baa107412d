"""One network over crops of several sizes."""

import torch
from torch import Tensor, nn

from nolabel.core.types import Batch


def each_crop(encoder: nn.Module, views: Batch) -> Tensor:
    """Features of all crops (V, B, D), the large ones first: one pass a size (SwAV: Caron et al. 2020, section 3.3).

    `views` has `global` (T, B, C, S, S) and, where there are small crops, `local` (L, B, C, s, s); V = T + L.
    """
    sizes = [views[name] for name in ("global", "local") if name in views]
    return torch.cat([encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in sizes])
