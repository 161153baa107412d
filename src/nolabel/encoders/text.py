"""Encoders of token ids (B, L), by name.

Shapes: B texts, L tokens, V words of the vocabulary, D width.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.core.types import PAD
from nolabel.networks.transformer import Transformer, sincos_positions


class TextEncoder(nn.Module):
    """A pre-LN transformer of words: ids (B, L) -> (B, D).

    Positions are learned, from sines and cosines on; PAD, which may only stand at the end, is never attended. `words` (V, D)
    is the embedding, which language models also use to score words, so it is small; a LayerNorm on words and positions
    (BERT, Devlin et al., NAACL 2019) keeps it from vanishing beside what the blocks add.
    `causal`: a token sees only those before it and itself. `pool`: the feature is the mean of the tokens, or the last one, as
    in CLIP; of a causal net by default the last. A method that trains no output at the last token takes the mean.
    """

    undecayed = ("positions",)

    def __init__(
        self,
        shape: tuple[int, ...],
        vocabulary: int,
        causal: bool = False,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        if vocabulary < 6:
            raise UserError(f"a text encoder needs a vocabulary of more than the five special tokens, not {vocabulary}")
        self.length: int = shape[-1]
        self.vocabulary, self.causal, self.dim = vocabulary, causal, dim
        self.words = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.words.weight, std=0.02)
        # of the size of the words; among sines and cosines neighbours are found sooner than among random vectors
        self.positions = nn.Parameter(0.02 * math.sqrt(2) * sincos_positions(dim, (self.length,)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.transformer = Transformer(dim, depth, heads)
        self.pool: Literal["mean", "last"] = "last" if causal else "mean"

    def embed(self, text: Tensor) -> Tensor:
        """ids (B, L) -> words with positions (B, L, D), normalised, L up to `length`."""
        if text.shape[1] > self.length:
            raise UserError(f"the text encoder takes {self.length} tokens, not {text.shape[1]}")
        return self.norm(self.words(text) + self.positions[: text.shape[1]])

    def encode(self, text: Tensor) -> Tensor:
        """ids (B, L) -> features of each token (B, L, D), final norm applied; those of PAD mean nothing."""
        return self.transformer(self.embed(text), self._visible(text))

    def forward(self, text: Tensor) -> Tensor:
        """ids (B, L) -> features (B, D)."""
        h_BLD, real_BL = self.encode(text), _real(text)
        if self.pool == "last":
            last_B = real_BL.sum(1) - 1
            return h_BLD[torch.arange(text.shape[0], device=text.device), last_B]
        weight_BL = real_BL / real_BL.sum(1, keepdim=True)
        return (weight_BL[:, None].to(h_BLD.dtype) @ h_BLD)[:, 0]

    def _visible(self, text: Tensor) -> Tensor:
        """Which keys each query may attend to: (B, 1, 1 or L, L)."""
        visible_B11L = _real(text)[:, None, None]
        if not self.causal:
            return visible_B11L
        side = text.shape[1]
        return visible_B11L & torch.ones(side, side, dtype=torch.bool, device=text.device).tril()


def _real(text: Tensor) -> Tensor:
    """Where a token is not PAD (B, L); an empty text counts as one token, for a softmax over nothing is not a number."""
    real_BL = text != PAD
    real_BL[:, 0] = True
    return real_BL


OURS: dict[str, Callable[..., nn.Module]] = {
    "tiny_text": TextEncoder,
    "tiny_caption": partial(TextEncoder, dim=64, depth=2, heads=2),  # short sentences about pictures
    "tiny_causal_text": partial(TextEncoder, causal=True),
}
"""from a name to what makes the encoder, from the shape of one input, the size of the vocabulary and options"""
