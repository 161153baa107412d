"""The distillation family; see the package."""

from nolabel.recipes import Recipe


def dino(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 100 epochs."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=100)
