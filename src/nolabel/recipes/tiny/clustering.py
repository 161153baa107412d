"""The clustering family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON
from nolabel.views.image import MultiCrop


def crops(size: int) -> MultiCrop:
    """Two large crops and two of half their side, in the colours of the joint-embedding views."""
    return MultiCrop(
        size=size, scale=(0.3, 1.0), local_size=size // 2, local_scale=(0.1, 0.4), locals=2,
        jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip


def swav(size: int) -> Recipe:
    """256 prototypes."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "prototypes": 256, "hidden": 512, "out": 128, "freeze_last": 0.25, "views": crops(size), "optim": MUON,
        },
    )  # fmt: skip


def deepcluster_v2(size: int) -> Recipe:
    """Three heads of 256 clusters."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"prototypes": 256, "hidden": 512, "out": 128, "views": crops(size), "optim": MUON},
    )
