"""The distillation family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import MultiCrop


def dino(size: int) -> Recipe:
    """4,096 prototypes, two global crops of the image and four local ones of half its side."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=200,
        fields={
            "prototypes": 4096,
            "momentum": (0.9995, 1.0),
            "batchnorm": True,
            "views": MultiCrop(size=size, local_size=size // 2, locals=4, blur=(0.0, 0.0, 0.0)),
            "optim": Optim("lars", lr=0.3, weight_decay=1e-6, trust=0.02, warmup_epochs=10),
        },
    )
