"""The redundancy family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, multi_crop, smaller, two_views


def barlow_twins(size: int) -> Recipe:
    """An embedding of 512."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "scale": 0.1, "views": two_views(size), "optim": MUON},
    )


def vicreg(size: int) -> Recipe:
    """An embedding of 512."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "views": two_views(size), "optim": MUON},
    )


def lejepa(size: int) -> Recipe:
    """Two global and two local crops, an embedding of 64, 256 directions."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={"hidden": 512, "slices": 256, "views": multi_crop(size, smaller(size)), "optim": MUON},
    )
