"""The clustering family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, multi_crop, smaller
from nolabel.views.crops import WholeAndCrops
from nolabel.views.image import OneView


def jittered(size: int) -> OneView:
    """One of the joint-embedding views."""
    return OneView(size=smaller(size), test_size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2)


def swav(size: int) -> Recipe:
    """256 prototypes."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "prototypes": 256, "hidden": 512, "out": 128, "freeze_last": 0.25,
            "views": multi_crop(size, smaller(size)), "optim": MUON,
        },
    )  # fmt: skip


def deepcluster_v2(size: int) -> Recipe:
    """Three heads of 256 clusters."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"prototypes": 256, "hidden": 512, "out": 128, "views": multi_crop(size, smaller(size)), "optim": MUON},
    )


def deepcluster(size: int) -> Recipe:
    """300 clusters of features as the encoder gives them."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"clusters": 300, "pca": 64, "hidden": 0, "dropout": 0.0, "views": jittered(size), "optim": MUON},
    )


def sela(size: int) -> Recipe:
    """Five heads of 128 labels, found anew every epoch."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"clusters": 128, "heads": 5, "strength": 10.0, "rounds": 400, "views": jittered(size), "optim": MUON},
    )


def local_aggregation(size: int) -> Recipe:
    """One epoch of instance discrimination, then three clusterings into 500."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "out": 64, "background": 512, "clusters": 500, "clusterings": 3, "iterations": 10, "instance_epochs": 1,
            "views": jittered(size), "optim": MUON,
        },
    )  # fmt: skip


def obow(size: int) -> Recipe:
    """1,024 words of the last map; crops of two sizes."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "codewords": 1024,
            "levels": 1,
            "sharpness": 10.0,
            "scale": 5.0,
            "views": WholeAndCrops(
                size=size, crop_size=smaller(size), scale=(0.2, 0.8), crops=1, local_size=size // 2,
                local_scale=(0.1, 0.4), locals=2, blur=0.0,
            ),
            "optim": MUON,
        },
    )  # fmt: skip


def deepercluster(size: int) -> Recipe:
    """Four turns by four super-clusters of 75 clusters."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "clusters": 300, "reassign": 1, "pca": 64, "hidden": 0, "dropout": 0.0, "views": jittered(size),
            "optim": MUON,
        },
    )  # fmt: skip
