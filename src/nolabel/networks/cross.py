"""Tokens that read other tokens."""

import torch
from torch import Tensor, nn

from nolabel.networks.transformer import Transformer, attend, sincos_positions, xavier


class CrossAttention(nn.Module):
    """Queries (B, Q, D) read a context (B, K, D) -> (B, Q, D); heads of D / heads values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.fused_attn = heads, True  # plain where the engine finds that faster
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, query_BQD: Tensor, context_BKD: Tensor) -> Tensor:
        def apart(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key_BKD, value_BKD = self.key_value(context_BKD).chunk(2, -1)
        read_BHQd = attend(apart(self.query(query_BQD)), apart(key_BKD), apart(value_BKD), self.fused_attn)
        return self.out(read_BHQd.transpose(1, 2).flatten(2))


class ReadingDecoder(nn.Module):
    """Queries read a context once, then talk among themselves: cross-attention, MLP, `depth` blocks -> (B, Q, out)."""

    def __init__(self, dim: int, depth: int, heads: int, out: int):
        super().__init__()
        self.query_norm, self.context_norm, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.cross = CrossAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.transformer = Transformer(dim, depth, heads)
        self.out = nn.Linear(dim, out)
        self.apply(xavier)

    def forward(self, query_BQD: Tensor, context_BKD: Tensor) -> Tensor:
        x_BQD = query_BQD + self.cross(self.query_norm(query_BQD), self.context_norm(context_BKD))
        x_BQD = x_BQD + self.mlp(self.norm(x_BQD))
        return self.out(self.transformer(x_BQD))


class LayerDecoder(nn.Module):
    """From the visible tokens of three layers to one of them, whole (Bachmann et al., ECCV 2022, section 3.5).

    A summary and K visible tokens of all layers (B, 1 + K, D), which are `keep` of 3 N while `hide` are not, and the number
    of the layer -> (B, N, out). Queries are the visible tokens of that layer, and a mask token where there are none.
    """

    undecayed = ("layer",)

    at_NW: Tensor

    def __init__(self, dim: int, width: int, depth: int, heads: int, grid: tuple[int, ...], out: int):
        super().__init__()
        self.into = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.layer = nn.Parameter(nn.init.normal_(torch.empty(3, 1, width), std=0.02))
        self.decoder = ReadingDecoder(width, depth, heads, out)
        self.register_buffer("at_NW", sincos_positions(width, grid), persistent=False)

    def forward(self, h_BSD: Tensor, keep_BK: Tensor, hide_BM: Tensor, layer: int) -> Tensor:
        summary_B1W, h_BKW = self.into(h_BSD).split((1, keep_BK.shape[1]), 1)
        at_3NW = (self.at_NW + self.layer).flatten(0, 1)
        hidden_BMW = self.mask_token.to(h_BKW.dtype).expand(*hide_BM.shape, -1)
        places_B3N1 = torch.cat((keep_BK, hide_BM), 1).argsort(1)[..., None]
        whole_B3NW = torch.cat((h_BKW, hidden_BMW), 1).take_along_dim(places_B3N1, 1) + at_3NW
        query_BNW = whole_B3NW.chunk(3, 1)[layer]
        return self.decoder(query_BNW, torch.cat((h_BKW + at_3NW[keep_BK], summary_B1W), 1))
