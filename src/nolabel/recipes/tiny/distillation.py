"""The distillation family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.tiny import ADAMW, ADAMW_TOKENS, multi_crop, one_view, two_views
from nolabel.views.image import MultiCrop


def dino(size: int) -> Recipe:
    """Two global and two local crops, 1,024 prototypes, a faster teacher."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 1024,
            "hidden": 512,
            "bottleneck": 128,
            "momentum": (0.99, 1.0),
            "freeze_last": 0.25,
            "batchnorm": True,
            "views": MultiCrop(
                size=size, scale=(0.3, 1.0), local_size=size // 2, local_scale=(0.1, 0.4), locals=2,
                blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.1, 0.0), interpolation="bilinear",
            ),
            "optim": Optim("adamw", lr=2e-3, weight_decay=0.04, scaled=False, warmup_epochs=0.5, clip_each=3.0),
        },
    )  # fmt: skip


def byol(size: int) -> Recipe:
    """A smaller head and a teacher that moves faster than the paper's."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 128, "momentum": (0.98, 1.0), "views": two_views(size), "optim": ADAMW},
    )


def simsiam(size: int) -> Recipe:
    """Head of 512; SGD as in the paper."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "bottleneck": 128, "views": two_views(size), "optim": ADAMW},
    )


SELF_DISTILLED = {
    "prototypes": 1024,
    "hidden": 512,
    "bottleneck": 128,
    "teacher_temperature": (0.04, 0.04),
    "momentum": (0.98, 1.0),
    "freeze_last": 0.25,
    "optim": ADAMW_TOKENS,
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
    return Recipe("tiny", batch=128, minutes=2.5, fields={"views": one_view(size), "optim": ADAMW})
