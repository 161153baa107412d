"""Encoders of token ids (B, L), by name."""

from collections.abc import Callable

from torch import nn

OURS: dict[str, Callable[..., nn.Module]] = {}
"""from a name to what makes the encoder, from the shape of one input and options"""
