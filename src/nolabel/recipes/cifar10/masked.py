"""The masked family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import OneView


def mae(size: int) -> Recipe:
    """A ViT-Tiny and a narrow decoder; judged by fine-tuning."""
    return Recipe(
        "vit_tiny_patch16_224",
        batch=256,
        epochs=400,
        fields={
            "width": 192,
            "depth": 4,
            "heads": 3,
            "views": OneView(size=size),
            "optim": Optim("adamw", lr=2e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40),
        },
    )
