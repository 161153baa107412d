"""The pretext family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import ADAMW
from nolabel.views.image import OneView


def rotation(size: int) -> Recipe:
    """Four turns of 128 images a step, with the colours of the joint-embedding views."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "views": OneView(size=size, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2),
            "optim": ADAMW,
        },
    )
