"""Tokens that read other tokens."""

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.networks.transformer import Transformer, xavier


class CrossAttention(nn.Module):
    """Queries (B, Q, D) read a context (B, K, D) -> (B, Q, D); heads of D / heads values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, query_BQD: Tensor, context_BKD: Tensor) -> Tensor:
        def apart(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key_BKD, value_BKD = self.key_value(context_BKD).chunk(2, -1)
        read_BHQd = F.scaled_dot_product_attention(apart(self.query(query_BQD)), apart(key_BKD), apart(value_BKD))
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
