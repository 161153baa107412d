"""The masked family; see the package."""

from dataclasses import replace

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, STRONG, TOKENS, multi_crop, one_view
from nolabel.views.audio import LogMel
from nolabel.views.image import OneView
from nolabel.views.video import OneClip

LIGHT = {"width": 96, "depth": 2, "heads": 3, "optim": TOKENS}
"""a decoder as light as the encoder"""


def mae(size: int) -> Recipe:
    """A decoder as light as the encoder; small batches, for steps are few. Toy world, one minute on one core: error 0.264
    (batch 256: 0.320), linear 24.3 (23.3), random init 22.5; one seed.
    """
    return Recipe(
        "tiny_tokens",
        batch=64,
        minutes=2.5,
        fields={**LIGHT, "views": OneView(size=size, scale=(0.3, 1.0))},
    )


def simmim(size: int) -> Recipe:
    """Cells of a quarter of the side, ten of sixteen hidden. Toy world, one minute on one core: linear 26.4 (batch 256: 24.0),
    random init 22.5; one seed.
    """
    return Recipe("tiny_tokens", batch=64, minutes=2.5, fields={"views": one_view(size), "optim": TOKENS})


def beit(size: int) -> Recipe:
    """512 codes."""
    return Recipe(
        "tiny_tokens",
        batch=64,
        minutes=2.5,
        fields={
            "min_block": 4,
            "codes": 512,
            "width": 64,
            "depth": 1,
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def um_mae(size: int) -> Recipe:
    """A small pyramid on a quarter of the units, and a light decoder."""
    return Recipe(
        "tiny_pyramid",
        batch=64,
        minutes=2.5,
        fields={"width": 96, "heads": 3, "views": one_view(size), "optim": TOKENS},
    )


def ijepa(size: int) -> Recipe:
    """Larger targets on the smaller grid; a predictor as wide as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=64,
        minutes=2.5,
        fields={
            "target_scale": (0.15, 0.25),
            "width": 96,
            "depth": 2,
            "heads": 3,
            "momentum": (0.98, 1.0),
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def data2vec(size: int) -> Recipe:
    """Three layers of four as target, a faster teacher."""
    return Recipe(
        "tiny_tokens",
        batch=64,
        minutes=2.5,
        fields={
            "min_block": 4,
            "layers": 3,
            "momentum": (0.98, 0.999),
            "momentum_epochs": 5,
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def msn(size: int) -> Recipe:
    """Tokens behind convolutions, crops of 6 x 6 of the 8 x 8 patches, without small ones; 256 prototypes, a target that
    follows at once. Toy world, one minute on one core, three seeds: linear 36.2, random init 20.0 (`tiny_tokens_coarse`,
    large crops and a small one: 26.3, 20.1).
    """
    return Recipe(
        "tiny_hybrid",
        batch=64,
        minutes=2.5,
        fields={
            "prototypes": 256,
            "hidden": 512,
            "out": 128,
            "momentum": (0.5, 1.0),
            "views": replace(multi_crop(size, 6 * (size // 8), locals=0), jitter=STRONG),
            "optim": MUON,
        },
    )


def videomae(size: int) -> Recipe:
    """Tubes of 2 x 4 x 4 pixels at 32 px, and enough of them seen to tell where things are."""
    return Recipe(
        "tiny_tubes",
        batch=64,
        minutes=5,
        fields={**LIGHT, "hide": 0.75, "views": OneClip(size=size, scale=(0.5, 1.0), frames=8, stride=1)},
    )


def audio_mae(size: int) -> Recipe:
    """Not quite a second at 8 kHz as 8 x 12 patches."""
    views = LogMel(rate=8000, seconds=0.96, mels=64, low=60, high=4000, gain=(-3.0, 3.0))
    return Recipe("tiny_mel_tokens", batch=128, minutes=2.5, fields={**LIGHT, "hide": 0.75, "views": views})
