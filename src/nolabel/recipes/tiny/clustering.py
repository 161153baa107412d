"""The clustering family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import ADAMW
from nolabel.views.image import MultiCrop, OneView


def crops(size: int) -> MultiCrop:
    """Two large crops and two of half their side, in the colours of the joint-embedding views."""
    return MultiCrop(
        size=size, scale=(0.3, 1.0), local_size=size // 2, local_scale=(0.1, 0.4), locals=2,
        jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip


def one_view(size: int) -> OneView:
    """One of the joint-embedding views."""
    return OneView(size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2)


def swav(size: int) -> Recipe:
    """256 prototypes."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "prototypes": 256, "hidden": 512, "out": 128, "freeze_last": 0.25, "views": crops(size), "optim": ADAMW,
        },
    )  # fmt: skip


def deepcluster_v2(size: int) -> Recipe:
    """Three heads of 256 clusters."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"prototypes": 256, "hidden": 512, "out": 128, "views": crops(size), "optim": ADAMW},
    )


def deepcluster(size: int) -> Recipe:
    """300 clusters of features as the encoder gives them."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"clusters": 300, "pca": 64, "hidden": 0, "dropout": 0.0, "views": one_view(size), "optim": ADAMW},
    )


def sela(size: int) -> Recipe:
    """Five heads of 128 labels, found anew every epoch."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"clusters": 128, "heads": 5, "strength": 10.0, "rounds": 400, "views": one_view(size), "optim": ADAMW},
    )
