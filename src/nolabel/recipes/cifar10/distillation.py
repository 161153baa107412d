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
    """What DINO's heirs share: a ViT-Tiny, 4,096 prototypes, two crops of 8 x 8 patches and small ones of 4 x 4."""
    views = MultiCrop(
        size=size, scale=(0.4, 1.0), local_size=size // 2, local_scale=(0.05, 0.4), locals=locals, blur=(0.0, 0.0, 0.0)
    )
    fields = {"prototypes": 4096, "bottleneck": 256, "views": views, **fields}
    return Recipe("vit_tiny_patch16_224", batch=256, epochs=epochs, fields=fields)


def ibot(size: int) -> Recipe:
    """Four small crops, 400 epochs. Not run yet."""
    return _tokens(size, 4, 400)


def dinov2(size: int) -> Recipe:
    """The teacher of a batch of 256, and the rate by the root of the batch. Not run yet."""
    optim = Optim(
        "adamw",
        lr=5e-4,
        weight_decay=0.04,
        final_weight_decay=0.2,
        scaled=False,
        warmup_epochs=10,
        final_lr=1e-6,
        clip=3.0,
    )
    return _tokens(size, 6, 300, momentum=(0.996, 1.0), optim=optim)


def esvit(size: int) -> Recipe:
    """Regions are the patches of a ViT. Not run yet."""
    return _tokens(size, 4, 300)


def mugs(size: int) -> Recipe:
    """Queues of a third of the data. Not run yet."""
    return _tokens(size, 4, 300, queue=16384)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels, at rate 0.1; `--teacher FILE` learns from a larger net. Not run yet."""
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": OneView(size=size, scale=(0.4, 1.0))})
