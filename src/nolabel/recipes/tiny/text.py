"""The text family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.text import OneText, Passages

WORDS = Optim("adamw", lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98), scaled=False, warmup_epochs=0.5, clip=1.0)


LABEL = "number"
"""of the toy world's texts for models of language: the topic is in the words alone, which untrained encoders show as well"""


def masked_language_model(size: int) -> Recipe:
    """Windows of 64 tokens."""
    return Recipe(
        "tiny_text", batch=64, minutes=2.5, fields={"views": OneText(length=64), "optim": WORDS}, toyworld=LABEL
    )


def next_token(size: int) -> Recipe:
    """Windows of 64 tokens."""
    return Recipe(
        "tiny_causal_text", batch=64, minutes=2.5, fields={"views": OneText(length=64), "optim": WORDS}, toyworld=LABEL
    )


def skip_thought(size: int) -> Recipe:
    """Passages of 6 tokens, for tiny texts are short; decoders of 192."""
    return Recipe(
        "tiny_text",
        batch=64,
        minutes=2.5,
        fields={"hidden": 192, "width": 96, "views": Passages(count=3, length=6), "optim": WORDS},
    )


def cpc_text(size: int) -> Recipe:
    """Three passages of 6 tokens, for tiny texts are short; two of them told ahead."""
    return Recipe(
        "tiny_text",
        batch=32,
        minutes=2.5,
        fields={"hidden": 128, "ahead": 2, "views": Passages(count=3, length=6), "optim": WORDS},
    )
