"""The redundancy family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, multi_crop, smaller, two_views


def barlow_twins(size: int) -> Recipe:
    """An embedding of 512, for which lambda is larger: toy world, one minute on one core, 20-NN 43.8 (0.0051: 36.1), random
    init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "redundancy": 0.02, "scale": 0.1, "views": two_views(size), "optim": MUON},
    )


def vicreg(size: int) -> Recipe:
    """An embedding of 512."""
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={"hidden": 512, "out": 512, "views": two_views(size), "optim": MUON},
    )


def lejepa(size: int) -> Recipe:
    """Two global crops, an embedding of 64, 256 directions: toy world, one minute on one core, 20-NN 42.8 (and two local
    ones: 28.0), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={"hidden": 512, "slices": 256, "views": multi_crop(size, smaller(size), locals=0), "optim": MUON},
    )
