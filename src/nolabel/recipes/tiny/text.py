"""The text family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.text import OneText, Passages

WORDS = Optim("adamw", lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98), scaled=False, warmup_epochs=0.5, clip=1.0)


def masked_language_model(size: int) -> Recipe:
    """Windows of 64 tokens."""
    return Recipe("tiny_text", batch=64, minutes=2.5, fields={"views": OneText(length=64), "optim": WORDS})


def next_token(size: int) -> Recipe:
    """Windows of 64 tokens."""
    return Recipe("tiny_causal_text", batch=64, minutes=2.5, fields={"views": OneText(length=64), "optim": WORDS})


def skip_thought(size: int) -> Recipe:
    """Passages of 16 tokens, decoders of 192."""
    return Recipe(
        "tiny_text",
        batch=64,
        minutes=2.5,
        fields={"hidden": 192, "width": 96, "views": Passages(count=3, length=16), "optim": WORDS},
    )


def cpc_text(size: int) -> Recipe:
    """Four passages of 16 tokens, two of them told ahead."""
    return Recipe(
        "tiny_text",
        batch=32,
        minutes=2.5,
        fields={"hidden": 128, "ahead": 2, "views": Passages(count=4, length=16), "optim": WORDS},
    )
