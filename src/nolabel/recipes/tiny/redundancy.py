"""The redundancy family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, two_views


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
