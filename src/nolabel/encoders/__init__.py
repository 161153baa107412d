"""Encoders: thin adapters that give every network the same face."""

from nolabel.encoders.image import ConvEncoder, image_encoder
from nolabel.encoders.tiny import TinyConv, tiny_tokens
from nolabel.encoders.vit import ViTEncoder
from nolabel.encoders.weights import calibrate_batchnorm, load_weights, timm_state_dict

__all__ = [
    "ConvEncoder",
    "TinyConv",
    "ViTEncoder",
    "calibrate_batchnorm",
    "image_encoder",
    "load_weights",
    "timm_state_dict",
    "tiny_tokens",
]
