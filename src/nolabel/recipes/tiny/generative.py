"""The generative family; see the package. Painters of 64 channels, no lighter than the encoder is."""

from dataclasses import replace
from typing import Any

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import ADAMW
from nolabel.views.image import OneView
from nolabel.views.lab import LightAndColor

GAN = replace(ADAMW, lr=1e-3, betas=(0.5, 0.999), weight_decay=0.0)
"""where a critic plays: toy world, one minute on one core, linear probe of AAE 29.2 (as the others: 16.4), random init 18.4; one
seed"""


def _recipe(encoder: str = "tiny", **fields: Any) -> Recipe:
    return Recipe(encoder, batch=128, minutes=2.5, fields={"optim": ADAMW, **fields})


def _crop(size: int) -> OneView:
    return OneView(size=size, scale=(0.5, 1.0))


def _unit(size: int) -> OneView:
    return OneView(
        size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )  # fmt: skip


def dae(size: int) -> Recipe:
    """Half of the values masked; a code of 256."""
    return _recipe(views=_unit(size), level=0.5, code=256, width=64)


def stacked_dae(size: int) -> Recipe:
    """The paper's three layers of 1,000; Adam instead of plain gradient descent."""
    return _recipe("dense", views=_unit(size))


def autoencoder(size: int) -> Recipe:
    """A code of 64."""
    return _recipe(views=_crop(size), width=64)


def vae(size: int) -> Recipe:
    """Pixels are trusted more than in the paper's frame: else the prior is all there is."""
    return _recipe(views=_crop(size), deviation=0.3, width=64)


def aae(size: int) -> Recipe:
    """A critic of 256."""
    return _recipe(views=_crop(size), hidden=256, width=64, optim=GAN)


def bigan(size: int) -> Recipe:
    """Half the side, for games take many steps, and a code of 16, whose parts an encoder can match before it can see: toy
    world, 1,000 steps, linear 26.7, random init 17.8, code correlation 0.28 (full side, a code of 64, told to the critic at
    its end: 19.2 and 0.02); one seed.
    """
    half = (0.5, 0.5, 0.5)
    views = OneView(size=max(16, size // 2), test_size=size, scale=(0.5, 1.0), mean=half, std=half)
    fields = {"views": views, "code": 16, "hidden": 256, "width": 64, "optim": GAN}
    return Recipe("tiny", batch=64, minutes=2.5, fields=fields)


def context_encoder(size: int) -> Recipe:
    """A hole of half the side, a band of one pixel."""
    return _recipe(views=_crop(size), overlap=1, width=64)


def colorization(size: int) -> Recipe:
    """Colours at a quarter of the side."""
    return _recipe(views=LightAndColor(size=size, scale=(0.3, 1.0)), doublings=1, width=64)


def split_brain(size: int) -> Recipe:
    """Both halves at a quarter of the side."""
    return _recipe(views=OneView(size=size, scale=(0.3, 1.0)), doublings=1, width=64)
