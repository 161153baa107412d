"""Encoders of sound, as log-mel pictures (B, 1, M, F) or waveforms (B, 1, S), by name."""

from collections.abc import Callable

from torch import nn

OURS: dict[str, Callable[..., nn.Module]] = {}
"""from a name to what makes the encoder, from the shape of one input and options"""
