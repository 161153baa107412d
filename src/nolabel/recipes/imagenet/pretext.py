"""The pretext family; see the package."""

from nolabel.recipes import Recipe


def rotation(size: int) -> Recipe:
    """ResNet-50, batch 192 of four turns, 35 epochs."""
    return Recipe("resnet50", batch=192, epochs=35)
