"""The distillation family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import MultiCrop, TwoViews


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
            "optim": Optim("lars", lr=0.3, weight_decay=1e-6, trust=0.02, trust_clip=True, warmup_epochs=10),
        },
    )


def byol(size: int) -> Recipe:
    """The heads, views and LARS of solo-learn: 92.6 % linear there."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=1000,
        fields={
            "momentum": (0.99, 1.0),
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0), solarize=(0.0, 0.2)),
            "optim": Optim("lars", lr=1.0, weight_decay=1e-5, trust=0.02, trust_clip=True, warmup_epochs=10),
        },
    )


def simsiam(size: int) -> Recipe:
    """The views and SGD of solo-learn, the paper's heads: 90.5 % linear there."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=1000,
        fields={
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.4, 0.1)),
            "optim": Optim("sgd", lr=0.5, weight_decay=1e-5, warmup_epochs=10),
        },
    )
