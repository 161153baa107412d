"""Context nets that read a grid row by row."""

import torch.nn.functional as F
from torch import Tensor, nn


class RowContext(nn.Module):
    """A masked convolutional net on a grid of features (B, h, w, D): c of row i sees the rows up to i, all columns near.

    The PixelCNN of CPC v2 (Henaff et al., ICML 2020, appendix A): residual blocks of a 1 x 1 convolution to `width`, a
    1 x 3 one within the row and a 2 x 1 one over the row above and this one, and back to D.
    """

    def __init__(self, dim: int, width: int, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, width, 1),
                nn.ReLU(),
                nn.Conv2d(width, width, (1, 3), padding=(0, 1)),
                nn.ZeroPad2d((0, 0, 1, 0)),
                nn.Conv2d(width, width, (2, 1)),
                nn.ReLU(),
                nn.Conv2d(width, dim, 1),
            )
            for _ in range(depth)
        )

    def forward(self, x_BhwD: Tensor) -> Tensor:
        x_BDhw = x_BhwD.permute(0, 3, 1, 2)
        for block in self.blocks:
            x_BDhw = x_BDhw + block(x_BDhw)
        return F.relu(x_BDhw).permute(0, 2, 3, 1)
