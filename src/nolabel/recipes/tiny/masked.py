"""The masked family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import TOKENS
from nolabel.views.image import OneView


def mae(size: int) -> Recipe:
    """A decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "width": 96,
            "depth": 2,
            "heads": 3,
            "views": OneView(size=size, scale=(0.3, 1.0)),
            "optim": TOKENS,
        },
    )
