"""The distillation family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, SLOW, TOKENS, multi_crop, one_view, smaller, two_views


def dino(size: int) -> Recipe:
    """Two global and two local crops, 1,024 prototypes, a faster teacher. CIFAR-10, three minutes on one core: 20-NN
    48.9 % (AdamW at 32 px: 42.9), random init 33.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 1024,
            "hidden": 512,
            "bottleneck": 128,
            "momentum": (0.98, 1.0),
            "freeze_last": 0.25,
            "batchnorm": True,
            "views": multi_crop(size, smaller(size)),
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
