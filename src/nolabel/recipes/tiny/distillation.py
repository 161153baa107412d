"""The distillation family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, SLOW, TOKENS, multi_crop, one_view, smaller, two_views


def dino(size: int) -> Recipe:
    """Two global crops, 256 prototypes, a fast and less sharp teacher: toy world, one minute on one core, 20-NN 28.0 (1,024
    prototypes, momentum 0.95, temperature 0.04, two local crops: 14), random init 17.0. CIFAR-10, 1.5 minutes: 41.4 either
    way, random init 33.1. One seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 256,
            "hidden": 512,
            "bottleneck": 128,
            "teacher_temperature": (0.07, 0.07),
            "momentum": (0.9, 1.0),
            "freeze_last": 0.25,
            "batchnorm": True,
            "views": multi_crop(size, smaller(size), locals=0),
            "optim": MUON,
        },
    )  # fmt: skip


def byol(size: int) -> Recipe:
    """A smaller head, a teacher that moves faster than the paper's, and many small steps: toy world, 2.5 minutes on two
    cores, 20-NN 34.8 % (batch 256 with momentum 0.98: 16 halfway), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={"hidden": 512, "out": 128, "momentum": (0.95, 1.0), "views": two_views(size), "optim": MUON},
    )


def simsiam(size: int) -> Recipe:
    """A head of 512."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "bottleneck": 128, "views": two_views(size), "optim": SLOW},
    )


SELF_DISTILLED = {
    "prototypes": 1024,
    "hidden": 512,
    "bottleneck": 128,
    "teacher_temperature": (0.04, 0.04),
    "momentum": (0.98, 1.0),
    "freeze_last": 0.25,
    "optim": TOKENS,
}
"""what the tiny encoder of tokens takes in the place of DINO's and iBOT's sizes: a faster teacher, fewer prototypes"""


def ibot(size: int) -> Recipe:
    """Two local crops, 1,024 prototypes, a faster teacher."""
    return Recipe("tiny_tokens", batch=128, minutes=2.5, fields={**SELF_DISTILLED, "views": multi_crop(size)})


def dinov2(size: int) -> Recipe:
    """As `ibot`, with all that DINOv2 adds to the loss."""
    return Recipe("tiny_tokens", batch=128, minutes=2.5, fields={**SELF_DISTILLED, "views": multi_crop(size)})


def esvit(size: int) -> Recipe:
    """As `ibot`; the regions are 8 x 8 patches of a global and 4 x 4 of a local crop."""
    return Recipe("tiny_tokens", batch=128, minutes=2.5, fields={**SELF_DISTILLED, "views": multi_crop(size)})


def mugs(size: int) -> Recipe:
    """As `ibot`, with queues of 4,096."""
    fields = {**SELF_DISTILLED, "queue": 4096, "out": 128, "views": multi_crop(size)}
    return Recipe("tiny_tokens", batch=128, minutes=2.5, fields=fields)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels; `--target features --teacher FILE` needs none."""
    return Recipe("tiny", batch=128, minutes=2.5, fields={"views": one_view(size), "optim": MUON})
