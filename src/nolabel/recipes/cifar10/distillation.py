"""The distillation family; see the package."""

from typing import Any

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.cifar10 import MUON
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


def _tokens(size: int, **fields: Any) -> Recipe:
    """What DINO's heirs share: tokens behind convolutions, two crops of 6 x 6 of the 8 x 8 patches that are looked at, 512
    prototypes, and the sharp teacher that follows at once of the tiny recipes. A plain ViT, and a teacher of momentum 0.99
    above 1,024 prototypes at a temperature of 0.04, stay near random init for long.
    """
    views = MultiCrop(
        size=6 * (size // 8), test_size=size, scale=(0.2, 1.0), locals=0, jitter=(0.4, 0.4, 0.4, 0.2),
        blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip
    shared = {
        "prototypes": 512, "hidden": 512, "bottleneck": 128, "teacher_temperature": (0.02, 0.02), "momentum": (0.5, 1.0),
        "freeze_last": 0.25, "views": views, "optim": MUON,
    }  # fmt: skip
    return Recipe("small_hybrid", batch=256, epochs=300, fields={**shared, **fields})


def ibot(size: int) -> Recipe:
    """Patches at a tenth of the weight in a head of their own. Begun: 37.5."""
    return _tokens(size, sinkhorn=True, shared_head=False, patch_weight=0.1)


def dinov2(size: int) -> Recipe:
    """Patches as for iBOT. Begun: 42.3."""
    return _tokens(size, patch_weight=0.1)


def esvit(size: int) -> Recipe:
    """Regions are the patches. Begun: 39.1."""
    return _tokens(size, sinkhorn=True)


def mugs(size: int) -> Recipe:
    """Queues of 4,096. Begun: 35.0."""
    return _tokens(size, queue=4096, out=128, sinkhorn=True)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels, at rate 0.1; `--teacher FILE` learns from a larger net. Begun: 41.4 in three minutes, with all
    labels.
    """
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": OneView(size=size, scale=(0.4, 1.0))})
