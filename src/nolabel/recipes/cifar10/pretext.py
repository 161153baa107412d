"""The pretext family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import OneView


def rotation(size: int) -> Recipe:
    """The paper's CIFAR-10 schedule, with a ResNet-18: rate 0.1 at batch 128, a fifth of it after 60, 120 and 160 epochs. Whole
    images, flipped; the authors shift them by up to 4 px, too.
    """
    optim = Optim(
        "sgd", lr=0.1, nesterov=True, weight_decay=5e-4, scaled=False, warmup_epochs=0, drops=(0.3, 0.6, 0.8), drop=0.2
    )
    views = OneView(size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": views, "optim": optim})
