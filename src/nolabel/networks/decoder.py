"""The light decoder of masked autoencoders, on image patches, video tubes and spectrogram patches alike."""

import torch
from torch import Tensor, nn

from nolabel.networks.transformer import Transformer, sincos_positions, xavier


class Decoder(nn.Module):
    """Predicts what was hidden from what was seen (He et al., CVPR 2022, arXiv 2111.06377, sec. 3).

    B batch, K kept tokens, M hidden tokens, D width of the encoder, P values a token. Encoded tokens of width `dim`
    are projected to `width`; one learned mask token stands at every hidden place; `depth` blocks with `heads` heads
    on fixed sine-cosine positions of `grid` give `out` values for each hidden token.
    """

    positions: Tensor

    def __init__(self, dim: int, width: int, depth: int, heads: int, grid: tuple[int, ...], out: int):
        super().__init__()
        self.into = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.register_buffer("positions", sincos_positions(width, grid), persistent=False)
        self.transformer = Transformer(width, depth, heads)
        self.out = nn.Linear(width, out)
        for layer in (self.into, self.out):
            xavier(layer)

    def forward(self, h_BTD: Tensor, keep_BK: Tensor, hide_BM: Tensor) -> Tensor:
        """Encoder output (B, 1 + K, D), summary token first, and places of tokens -> predictions (B, M, P).

        The tokens stay in the order kept, hidden: attention does not see order, only positions, so nothing needs to
        be shuffled back, and only the hidden ones are projected to values.
        """
        kept_BTW = self.into(h_BTD)
        summary_B1W, seen_BKW = kept_BTW[:, :1], kept_BTW[:, 1:] + self.positions[keep_BK]
        hidden_BMW = self.mask_token + self.positions[hide_BM]
        x_BLW = self.transformer(torch.cat((summary_B1W, seen_BKW, hidden_BMW), 1))
        return self.out(x_BLW[:, x_BLW.shape[1] - hide_BM.shape[1] :])
