"""The distillation family; see the package."""

from dataclasses import replace
from typing import Any

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import HUES, MUON, SLOW, STRONG, TOKENS, multi_crop, one_view, smaller, two_views


def dino(size: int) -> Recipe:
    """Two global and two local crops, strong hues, 1,024 prototypes, a faster teacher. One core, 20-NN: CIFAR-10, three
    minutes, 44.4 % (hue 0.1 and momentum 0.98: 42.9), random init 33.1; toy world, 1.5 minutes, 25.6 (hue alone: 20.6; neither,
    two minutes: 18.5), random init 17.0; one seed. 256 prototypes, a teacher of momentum 0.9 and temperature 0.07 and no local
    crops are better still on the toy world and take ten points on CIFAR-10.
    """
    crops = replace(multi_crop(size, smaller(size), locals=2), scale=(0.3, 1.0), jitter=HUES)
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 1024,
            "hidden": 512,
            "bottleneck": 128,
            "momentum": (0.95, 1.0),
            "freeze_last": 0.25,
            "batchnorm": True,
            "views": crops,
            "optim": MUON,
        },
    )


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
    "prototypes": 128,
    "hidden": 512,
    "bottleneck": 128,
    "teacher_temperature": (0.04, 0.04),
    "momentum": (0.8, 1.0),
    "freeze_last": 0.25,
    "optim": replace(TOKENS, lr=1.2e-2),
}
"""what the tiny encoder of tokens takes in the place of DINO's and iBOT's sizes: few prototypes and a teacher that follows
at once, for minutes hold few steps. Toy world, one minute on one core, 20-NN of DINOv2 29.0 (1.5 minutes with hue 0.2: 25.5; with
1,024 prototypes, momentum 0.98, 8 x 8 patches, half the rate: 17), random init 15.2; one seed"""


def _self_distilled(size: int, **more: Any) -> Recipe:
    """4 x 4 patches, a quarter of the usual, of two large crops."""
    fields = {**SELF_DISTILLED, "views": replace(multi_crop(size, locals=0), jitter=STRONG), **more}
    return Recipe("tiny_tokens_coarse", batch=64, minutes=2.5, fields=fields)


def ibot(size: int) -> Recipe:
    """Prototypes of unit length and a softer teacher: toy world, 640 steps, 20-NN 15.1, random init 15.2, for the class token
    becomes nearly constant. Targets by Sinkhorn-Knopp and a head for patches of its own keep it apart (std 0.82 after 60 steps in
    place of 0.14) and end at 13.1; a faster centre at 14.6 after 200; one seed.
    """
    return _self_distilled(size, norm_last=True, teacher_temperature=(0.05, 0.05))


def dinov2(size: int) -> Recipe:
    """All that DINOv2 adds to the loss."""
    return _self_distilled(size)


def esvit(size: int) -> Recipe:
    """Regions are patches; targets by Sinkhorn-Knopp, for a centre lags behind a teacher that follows at once. Toy world, 40
    steps, 20-NN 18.7 and std of the class token 0.78 (with centres, a slower teacher and a third of the rate: 16.7, 0.38), random
    init 15.2; one seed.
    """
    views = replace(multi_crop(size, locals=0), scale=(0.3, 1.0), jitter=HUES)
    return _self_distilled(size, sinkhorn=True, views=views)


def mugs(size: int) -> Recipe:
    """Queues of four steps, a slower teacher and a low rate: rows of a queue are told apart from new ones by what has changed
    since in all of them, and the class token becomes nearly constant, its std after 40 steps 0.45, and 0.18 after 25 of a fast
    teacher; one seed.
    """
    slower = {"momentum": (0.95, 1.0), "optim": replace(TOKENS, lr=2e-3)}
    return _self_distilled(size, queue=512, out=128, sinkhorn=True, **slower)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels; `--target features --teacher FILE` needs none."""
    return Recipe("tiny", batch=128, minutes=2.5, fields={"views": one_view(size), "optim": MUON})
