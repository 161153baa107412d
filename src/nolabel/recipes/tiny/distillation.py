"""The distillation family; see the package."""

from typing import Any

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, SLOW, multi_crop, one_view, smaller, two_views


def dino(size: int) -> Recipe:
    """128 prototypes, sharp targets by Sinkhorn-Knopp, a teacher that follows at once, two large crops. One core, 20-NN and
    linear: toy world, one minute, three seeds, 43.3 and 56.7, random init 17.7 and 19.2; CIFAR-10, three minutes, one seed, 49.0
    and 54.1, random init 33.1 and 34.7 (1,024 prototypes, centre, temperature 0.04, momentum 0.95, two local crops: 42.9, 49.9).
    Under a centre in the place of Sinkhorn-Knopp so sharp a teacher collapses to a few prototypes.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "prototypes": 128,
            "hidden": 512,
            "bottleneck": 128,
            "teacher_temperature": (0.02, 0.02),
            "momentum": (0.5, 1.0),
            "freeze_last": 0.25,
            "batchnorm": True,
            "sinkhorn": True,
            "views": multi_crop(size, smaller(size), locals=0),
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
    "hidden": 256,
    "bottleneck": 128,
    "teacher_temperature": (0.02, 0.02),
    "momentum": (0.5, 1.0),
    "freeze_last": 0.25,
    "optim": MUON,
}
"""what DINO's heirs take in the place of its sizes: few prototypes, a teacher that follows at once and is sharp, for minutes hold
few steps. At temperatures of 0.04 targets stay uniform, and of DINOv2 KoLeo alone learns. Toy world, one minute on one core,
20-NN and linear of DINOv2 43.9 and 49.1, random init about 16 and 20 (tiny_tokens in two minutes: 30.9, 22.8), one seed"""


def _self_distilled(size: int, **more: Any) -> Recipe:
    """Tokens behind convolutions, for a class token of a net that has seen little is nearly the same for all images. Crops
    have 6 x 6 patches of the 8 x 8 that are looked at.
    """
    fields = {**SELF_DISTILLED, "views": multi_crop(size, 6 * (size // 8), locals=0), **more}
    return Recipe("tiny_hybrid", batch=64, minutes=2.5, fields=fields)


def ibot(size: int) -> Recipe:
    """Sinkhorn-Knopp, and a head for patches of its own at a tenth of the weight: what patches show is soon known from their
    place, and images are learned last. Toy world, one core, 20-NN and linear over three seeds: 32.8 and 44.7 in two minutes,
    random init 16.2 and 20.0. By weight (one minute, batch 128, temperature 0.03, one seed) 1: 16.0, 24.7; 0.2: 20.1, 34.6;
    0: 21.3, 41.3. Without the convolutions 20-NN stays near 15, as untrained.
    """
    return _self_distilled(size, sinkhorn=True, shared_head=False, patch_weight=0.1)


def dinov2(size: int) -> Recipe:
    """All that DINOv2 adds to the loss, patches at a tenth of the weight as for iBOT."""
    return _self_distilled(size, patch_weight=0.1)


def esvit(size: int) -> Recipe:
    """Regions are tokens; targets by Sinkhorn-Knopp, for a centre lags behind a teacher that follows at once."""
    return _self_distilled(size, sinkhorn=True)


def mugs(size: int) -> Recipe:
    """Queues of eight steps."""
    return _self_distilled(size, queue=512, out=128, sinkhorn=True)


def knowledge_distillation(size: int) -> Recipe:
    """Born again with labels; `--target features --teacher FILE` needs none."""
    return Recipe("tiny", batch=128, minutes=2.5, fields={"views": one_view(size), "optim": MUON})
