"""The contrastive family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import TwoViews


def simclr(size: int) -> Recipe:
    """The setting of most published CIFAR-10 clocks: 200 epochs, batch 512, SGD 0.06 per 128 samples."""
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.12, weight_decay=5e-4, warmup_epochs=10),
        },
    )
