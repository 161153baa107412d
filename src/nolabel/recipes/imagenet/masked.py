"""The masked family; see the package."""

from nolabel.recipes import Recipe


def mae(size: int) -> Recipe:
    """ViT-B/16, batch 4,096, 800 epochs."""
    return Recipe("vit_base_patch16_224", batch=4096, epochs=800)
