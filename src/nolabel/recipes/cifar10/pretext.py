"""The pretext family; see the package."""

from nolabel.recipes import Recipe
from nolabel.views.image import OneView


def rotation(size: int) -> Recipe:
    """The paper's CIFAR-10 schedule, with a ResNet-18."""
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": OneView(size=size, scale=(0.6, 1.0))})
