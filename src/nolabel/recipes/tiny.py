"""Minutes on two CPU cores: the tiny encoders on toyworld, CIFAR-10 or a folder of photographs.

nolabel train METHOD                                        toyworld
nolabel train METHOD --data cifar10/ --minutes 10           CIFAR-10
"""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import MultiCrop, OneView, TwoViews

ADAMW = Optim("adamw", lr=3e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2)


def simclr(size: int) -> Recipe:
    """CIFAR-10, ten minutes on two cores: 20-NN 64.2 % (tau 0.1: 63.7 %), random init 33.0, raw pixels 45.4; one seed."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"temperature": 0.2, "hidden": 512, "views": _two(size), "optim": ADAMW},
    )


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


def mae(size: int) -> Recipe:
    """A decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "width": 96,
            "depth": 2,
            "heads": 3,
            "views": OneView(size=size, scale=(0.3, 1.0)),
            "optim": Optim("adamw", lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.95), scaled=False, warmup_epochs=1),
        },
    )


def rotation(size: int) -> Recipe:
    """Four turns of 128 images a step, with the colours of the joint-embedding views."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "views": OneView(size=size, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2),
            "optim": ADAMW,
        },
    )


def byol(size: int) -> Recipe:
    """A smaller head and a teacher that moves faster than the paper's."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 128, "momentum": (0.98, 1.0), "views": _two(size), "optim": ADAMW},
    )


def simsiam(size: int) -> Recipe:
    """Head of 512; SGD as in the paper."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "bottleneck": 128, "views": _two(size), "optim": ADAMW},
    )


def barlow_twins(size: int) -> Recipe:
    """An embedding of 512."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "scale": 0.1, "views": _two(size), "optim": ADAMW},
    )


def vicreg(size: int) -> Recipe:
    """An embedding of 512."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "views": _two(size), "optim": ADAMW},
    )


def _two(size: int) -> TwoViews:
    """Weaker colours and larger crops than the papers': a small net and few epochs cannot use the hardest views."""
    return TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
