"""The contrastive family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, two_views


def simclr(size: int) -> Recipe:
    """CIFAR-10, ten minutes on two busy cores, 16.6 epochs: 20-NN 69.2 %, random init 33.0, raw pixels 45.4; one seed."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"temperature": 0.2, "hidden": 512, "views": two_views(size), "optim": MUON},
    )
