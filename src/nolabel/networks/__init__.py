"""Small networks that methods put on and beside an encoder."""

from nolabel.networks.decoder import Decoder
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead, Prototypes
from nolabel.networks.mask_token import MaskToken
from nolabel.networks.mlp import mlp
from nolabel.networks.tokenizer import Tokenizer
from nolabel.networks.transformer import Block, Transformer, attention_weights, sincos_positions, tapped

__all__ = [
    "EMA",
    "Block",
    "DINOHead",
    "Decoder",
    "MaskToken",
    "Prototypes",
    "Tokenizer",
    "Transformer",
    "attention_weights",
    "mlp",
    "sincos_positions",
    "tapped",
]
