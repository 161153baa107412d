"""The light decoder of masked autoencoders, on image patches, video tubes and spectrogram patches alike."""

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.networks.transformer import Transformer, sincos_positions, xavier


class Decoder(nn.Module):
    """Predicts what was hidden from what was seen (He et al., CVPR 2022, arXiv 2111.06377, sec. 3).

    B batch, K kept tokens, M hidden tokens, D width of the encoder, P values a token. Encoded tokens of width `dim`
    are projected to `width`; one learned mask token stands at every hidden place; `depth` blocks with `heads` heads
    on fixed sine-cosine positions of `grid` give `out` values for each hidden token. Without a grid (point groups,
    whose places differ from sample to sample) positions are handed in.

    With `window` tokens attend within windows of so many tokens a side of a grid of two axes, which every second block
    shifts by half along the second; the summary token, which has no place, takes no part (Audio-MAE, Huang et al.,
    NeurIPS 2022, section 3, blocks of Liu et al., "Swin Transformer", ICCV 2021). Raises UserError for another grid.
    """

    positions: Tensor | None

    def __init__(
        self, dim: int, width: int, depth: int, heads: int, grid: tuple[int, ...] | None, out: int, window: int = 0
    ):
        super().__init__()
        self.grid, self.window = grid, window
        self.into = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.register_buffer("positions", None if grid is None else sincos_positions(width, grid), persistent=False)
        self.transformer = self._windows(width, depth, heads) if window else Transformer(width, depth, heads)
        self.out = nn.Linear(width, out)
        for layer in (self.into, self.out):
            xavier(layer)

    def forward(self, h_BTD: Tensor, keep_BK: Tensor, hide_BM: Tensor, positions_BLW: Tensor | None = None) -> Tensor:
        """Encoder output (B, 1 + K, D), summary token first, and places of tokens -> predictions (B, M, P).

        `positions_BLW` stand in for those of the grid, for all L tokens of each sample.

        The tokens stay in the order kept, hidden: attention does not see order, only positions, so nothing needs to
        be shuffled back, and only the hidden ones are projected to values.
        """
        if self.window:
            return self._by_windows(self.into(h_BTD[:, 1:]), keep_BK, hide_BM)
        kept_BTW = self.into(h_BTD)
        summary_B1W, seen_BKW = kept_BTW[:, :1], kept_BTW[:, 1:] + self._at(keep_BK, positions_BLW)
        hidden_BMW = self.mask_token + self._at(hide_BM, positions_BLW)
        x_BLW = self.transformer(torch.cat((summary_B1W, seen_BKW, hidden_BMW), 1))
        return self.out(x_BLW[:, x_BLW.shape[1] - hide_BM.shape[1] :])

    def _windows(self, width: int, depth: int, heads: int) -> nn.Module:
        if self.grid is None or len(self.grid) != 2:
            raise UserError("a decoder attends within windows of a grid of two axes only: take --window 0")
        shifts = [(0, self.window // 2) if i % 2 else (0, 0) for i in range(depth)]
        blocks = [
            SwinTransformerBlock(width, self.grid, heads, window_size=self.window, shift_size=shift)  # type: ignore[arg-type]
            for shift in shifts
        ]
        return nn.Sequential(*blocks, nn.LayerNorm(width)).apply(xavier)

    def _by_windows(self, seen_BKW: Tensor, keep_BK: Tensor, hide_BM: Tensor) -> Tensor:
        assert self.grid is not None and self.positions is not None
        empty_BLW = self.mask_token.to(seen_BKW.dtype).expand(len(seen_BKW), len(self.positions), -1)
        x_BLW = empty_BLW.scatter(1, keep_BK[..., None].expand_as(seen_BKW), seen_BKW) + self.positions
        x_BLW = self.transformer(x_BLW.unflatten(1, self.grid)).flatten(1, 2)
        return self.out(x_BLW.take_along_dim(hide_BM[..., None], 1))

    def _at(self, places_BK: Tensor, positions_BLW: Tensor | None) -> Tensor:
        if positions_BLW is not None:
            return positions_BLW.take_along_dim(places_BK[..., None], 1)
        assert self.positions is not None, "a decoder without a grid needs positions"
        return self.positions[places_BK]
