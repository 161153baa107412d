"""The clustering family; see the package."""

from dataclasses import replace

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import FEW, MUON, SLOW, STRONG, multi_crop, smaller
from nolabel.views.crops import WholeAndCrops
from nolabel.views.image import OneView


def jittered(size: int) -> OneView:
    """One of the joint-embedding views, with the papers' colours."""
    return OneView(size=smaller(size), test_size=size, scale=(0.2, 1.0), jitter=STRONG, gray=0.2)


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


def seer(size: int) -> Recipe:
    """SwAV's tiny setting, under SEER's head of three layers without batch norm and its ten rounds of Sinkhorn."""
    return swav(size)


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
            "views": replace(multi_crop(size, smaller(size), locals=0), jitter=STRONG),
        },
        toyworld=FEW,
    )


def deepcluster(size: int) -> Recipe:
    """100 clusters of features as the encoder gives them, for five epochs: one of 60 steps is too short for a classifier to
    start anew. Colours stay, and are jittered: toy world of 4,000, one minute on one core, 20-NN 35.0, random init 15.3 (of
    edges 26.4, 22.1; found anew every epoch 22); one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "clusters": 100, "reassign": 5, "pca": 64, "hidden": 0, "dropout": 0.0, "sobel": False,
            "views": jittered(size), "optim": MUON,
        },
        toyworld=FEW,
    )  # fmt: skip


def sela(size: int) -> Recipe:
    """Ten heads of 64 labels: toy world of 4,000, one minute on one core, 20-NN 35.9, random init 15.3; one seed."""
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={"clusters": 64, "heads": 10, "strength": 10.0, "rounds": 20, "views": jittered(size), "optim": MUON},
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
    """256 words of the last map, told apart sharply; a fast teacher; two crops: toy world, one minute on one core, 20-NN 29.6
    (hue 0.2: 19.9; momentum 0.99, 1,024 words: 15.0), random init 17.0; one seed.
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
                jitter=STRONG, blur=0.0,
            ),
            "optim": MUON,
        },
    )  # fmt: skip


def deepercluster(size: int) -> Recipe:
    """Four turns by 40 clusters, for five epochs. Of the toy world what stands upright. All turns of an image are in one batch:
    after 60 steps the gradient of the turns has 1.6 times as much signal as noise, and 0.15 with as many views of one turn each
    (strong colours or weak: alike). One super-cluster: the classifier of turns never starts anew.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "clusters": 40, "super_clusters": 1, "all_turns": True, "reassign": 5, "pca": 64, "hidden": 0, "dropout": 0.0,
            "sobel": False, "views": jittered(size), "optim": MUON,
        },
        toyworld=f"{FEW}:upright",
    )  # fmt: skip
