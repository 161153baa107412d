"""The distillation family; see the package."""

from typing import Any

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import MultiCrop, OneView, TwoViews


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


def _tokens(size: int, locals: int, epochs: float, **fields: Any) -> Recipe:
    """What DINO's heirs share: tokens behind convolutions, 1,024 prototypes, Sinkhorn-Knopp, two crops of 8 x 8 patches and
    small ones of 4 x 4. In the small recipes a plain ViT stays near its random init for long; so does a ViT-Tiny here.
    """
    views = MultiCrop(
        size=size, scale=(0.4, 1.0), local_size=size // 2, local_scale=(0.05, 0.4), locals=locals, blur=(0.0, 0.0, 0.0)
    )
    optim = Optim("adamw", lr=1e-3, weight_decay=0.04, scaled=False, warmup_epochs=10, final_lr=1e-6, clip=3.0)
    shared = {
        "prototypes": 1024,
        "hidden": 1024,
        "bottleneck": 256,
        "momentum": (0.99, 1.0),
        "views": views,
        "optim": optim,
    }
    return Recipe("small_hybrid", batch=256, epochs=epochs, fields={**shared, **fields})


def ibot(size: int) -> Recipe:
    """Four small crops, patches at a tenth of the weight in a head of their own, 400 epochs. Not run yet."""
    return _tokens(size, 4, 400, sinkhorn=True, shared_head=False, patch_weight=0.1)


def dinov2(size: int) -> Recipe:
    """Six small crops, patches as for iBOT. Not run yet."""
    return _tokens(size, 6, 300, patch_weight=0.1)


def esvit(size: int) -> Recipe:
    """Regions are the patches. Not run yet."""
    return _tokens(size, 4, 300, sinkhorn=True)


def mugs(size: int) -> Recipe:
    """Queues of a third of the data. Not run yet."""
    return _tokens(size, 4, 300, queue=16384, sinkhorn=True)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels, at rate 0.1; `--teacher FILE` learns from a larger net. Not run yet."""
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": OneView(size=size, scale=(0.4, 1.0))})
