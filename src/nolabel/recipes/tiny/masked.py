"""The masked family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.audio import LogMel
from nolabel.views.image import OneView
from nolabel.views.video import OneClip

LIGHT = {
    "width": 96,
    "depth": 2,
    "heads": 3,
    "optim": Optim("adamw", lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.95), scaled=False, warmup_epochs=1),
}
"""a decoder as light as the encoder"""


def mae(size: int) -> Recipe:
    """A decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={**LIGHT, "views": OneView(size=size, scale=(0.3, 1.0))},
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
