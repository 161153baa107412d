"""The clustering family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.cifar10 import MUON
from nolabel.views.crops import WholeAndCrops
from nolabel.views.image import MultiCrop, OneView

LARS = Optim("lars", lr=0.6, weight_decay=1e-6, trust=0.02, trust_clip=True, warmup_epochs=11, final_lr=6e-4)
SGD = Optim("sgd", lr=0.05, weight_decay=5e-4, scaled=False, warmup_epochs=5)


def pairs(size: int) -> MultiCrop:
    """Two crops and no small ones."""
    return MultiCrop(
        size=size, scale=(0.2, 1.0), locals=0, jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0, 0.0),
        solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip


def one(size: int) -> OneView:
    """One crop with colours."""
    return OneView(size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2)


def swav(size: int) -> Recipe:
    """3,000 prototypes, a queue from epoch 50 on."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=1000,
        fields={"queue": 3840, "queue_from": 50, "freeze_last": 2, "views": pairs(size), "optim": LARS},
    )


def deepcluster_v2(size: int) -> Recipe:
    """Three heads of 3,000 clusters."""
    return Recipe("resnet18", batch=256, epochs=1000, fields={"views": pairs(size), "optim": LARS})


def deepcluster(size: int) -> Recipe:
    """500 clusters of the pooled features."""
    return Recipe(
        "resnet18", batch=256, epochs=200, fields={"clusters": 500, "hidden": 0, "views": one(size), "optim": SGD}
    )


def sela(size: int) -> Recipe:
    """The paper's CIFAR-10 setting with a ResNet-18: ten heads of 128 labels, found anew every epoch."""
    return Recipe(
        "resnet18",
        batch=128,
        epochs=400,
        fields={
            "clusters": 128,
            "strength": 10.0,
            "rounds": 400,
            "views": one(size),
            "optim": Optim(
                "sgd", lr=0.03, weight_decay=5e-4, scaled=False, warmup_epochs=0, drops=(0.375, 0.75, 0.875)
            ),
        },
    )


def local_aggregation(size: int) -> Recipe:
    """Three clusterings into 500, after 20 epochs of instance discrimination."""
    return Recipe(
        "resnet18",
        batch=128,
        epochs=200,
        fields={
            "background": 1024, "clusters": 500, "clusterings": 3, "instance_epochs": 20, "views": one(size),
        },
    )  # fmt: skip


def obow(size: int) -> Recipe:
    """2,048 words of the last map."""
    return Recipe(
        "resnet18",
        batch=128,
        epochs=200,
        fields={
            "codewords": 2048,
            "levels": 1,
            "sharpness": 10.0,
            "scale": 5.0,
            "views": WholeAndCrops(
                size=size, crop_size=size, scale=(0.2, 0.8), local_size=5 * size // 8, local_scale=(0.1, 0.4), blur=0.0
            ),
            "optim": SGD,
        },
    )


def deepercluster(size: int) -> Recipe:
    """Four turns by four super-clusters of 100 clusters; 64 images a step in all turns, which is 200 epochs of turned images."""
    return Recipe(
        "resnet18",
        batch=64,
        epochs=50,
        fields={"clusters": 400, "all_turns": True, "hidden": 0, "views": one(size), "optim": SGD},
    )


def seer(size: int) -> Recipe:
    """128 prototypes and sharper codes than SwAV's, two crops. Begun: 40.6."""
    fields = {
        "prototypes": 128, "epsilon": 0.03, "hidden": 512, "out": 128, "freeze_last": 0.25, "views": pairs(size), "optim": MUON,
    }  # fmt: skip
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)
