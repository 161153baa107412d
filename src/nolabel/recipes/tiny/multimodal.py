"""The families of several modalities; see the package."""

from dataclasses import replace

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import SLOW, TOKENS
from nolabel.views.layers import Layers
from nolabel.views.pairs import Captioned


def clip(size: int) -> Recipe:
    """A small tower for short captions, the whole picture, and Muon, without which things of a few pixels in front of strong
    patterns are not found. Toy world `hard`, one core, zero-shot, chance 12.5: 48.8 in 4 minutes (AdamW at 1e-3, batch 128:
    15.7 in 4.5; Muon with a text tower of width 128 and depth 4: 40.2; in batches of 64: 24.3), and 70.6 in 5 of 100,000
    pictures in the place of 20,000, whose captions are soon known; one seed.
    """
    return Recipe(
        {"image": "tiny", "text": "tiny_caption"},
        batch=256,
        minutes=2.5,
        fields={"out": 64, "views": Captioned(size=size, length=32), "optim": SLOW},
    )


def siglip(size: int) -> Recipe:
    """CLIP's towers and Muon; b at -ln of the batch, and a scale at which texts are not alike for long."""
    made = clip(size)
    return replace(made, fields={**made.fields, "scale": 5.0, "offset": -5.55})


def m3ae(size: int) -> Recipe:
    """Captions of up to 24 tokens, half of them hidden; a decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=64,
        minutes=2.5,
        fields={
            "width": 96,
            "depth": 2,
            "heads": 3,
            "hide_text": 0.5,
            "views": Captioned(size=size, scale=(0.5, 1.0), length=24),
            "optim": TOKENS,
        },
    )


def multimae(size: int) -> Recipe:
    """32 of 192 tokens seen; decoders of width 96 that read once and do not talk; small batches, for steps are few."""
    return Recipe(
        "tiny_tokens",
        batch=32,
        minutes=2.5,
        fields={
            "classes": 32,
            "class_width": 16,
            "width": 96,
            "depth": 0,
            "heads": 3,
            "views": Layers(size=size, scale=(0.3, 1.0), cell=size // 8 if size < 64 else 4),
            "optim": TOKENS,
        },
    )
