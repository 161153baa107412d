"""The clustering family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import COLORS, FEW, MUON, SLOW, multi_crop, smaller
from nolabel.views.crops import WholeAndCrops
from nolabel.views.image import OneView


def jittered(size: int) -> OneView:
    """One of the joint-embedding views, with the papers' colours: clusters of colours are easy to find and to tell."""
    return OneView(size=smaller(size), test_size=size, scale=(0.2, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), gray=0.2)


def swav(size: int) -> Recipe:
    """128 prototypes, sharper codes, two large crops: toy world, one minute on one core, 20-NN 52.0 (and two local ones: 26.8;
    epsilon 0.05: codes stay uniform), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 128, "epsilon": 0.03, "hidden": 512, "out": 128, "freeze_last": 0.25,
            "views": multi_crop(size, smaller(size), locals=0), "optim": MUON,
        },
    )  # fmt: skip


def deepcluster_v2(size: int) -> Recipe:
    """Three heads of 64 clusters."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "prototypes": 64,
            "hidden": 512,
            "out": 128,
            "optim": MUON,
            "views": multi_crop(size, smaller(size), locals=0),
        },
        toyworld=FEW,
    )


def deepcluster(size: int) -> Recipe:
    """100 clusters of features as the encoder gives them."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={"clusters": 100, "pca": 64, "hidden": 0, "dropout": 0.0, "views": jittered(size), "optim": MUON},
        toyworld=FEW,
    )


def sela(size: int) -> Recipe:
    """Five heads of 64 labels, found anew every epoch."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={"clusters": 64, "heads": 5, "strength": 10.0, "rounds": 400, "views": jittered(size), "optim": MUON},
        toyworld=FEW,
    )


def local_aggregation(size: int) -> Recipe:
    """Five epochs of instance discrimination, then three clusterings into 200."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "out": 64, "background": 512, "clusters": 200, "clusterings": 3, "iterations": 10, "instance_epochs": 5,
            "views": jittered(size), "optim": SLOW,
        },
        toyworld=FEW,
    )  # fmt: skip


def obow(size: int) -> Recipe:
    """256 words of the last map, told apart sharply; a fast teacher; two crops: toy world, one minute on one core, 20-NN 21.4
    (momentum 0.99, 1,024 words: 15.0), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "codewords": 256,
            "levels": 1,
            "sharpness": 30.0,
            "scale": 5.0,
            "momentum": (0.9, 1.0),
            "distance_momentum": 0.9,
            "views": WholeAndCrops(
                size=size, crop_size=smaller(size), scale=(0.2, 0.8), crops=2, local_size=size // 2, locals=0,
                jitter=COLORS, blur=0.0,
            ),
            "optim": MUON,
        },
    )  # fmt: skip


def deepercluster(size: int) -> Recipe:
    """Four turns by four super-clusters of 25 clusters."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "clusters": 100, "reassign": 1, "pca": 64, "hidden": 0, "dropout": 0.0, "views": jittered(size),
            "optim": MUON,
        },
        toyworld=FEW,
    )  # fmt: skip
