"""The pretext family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON, smaller
from nolabel.views.image import OneView
from nolabel.views.tiles import AnyFilter, Copies, Tiles


def rotation(size: int) -> Recipe:
    """Four turns of 128 images a step, with the colours of the joint-embedding views. CIFAR-10, three minutes on one
    core: 20-NN 52.0 % (at 32 px: 49.4), random init 33.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "views": OneView(
                size=smaller(size), test_size=size, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), gray=0.2
            ),
            "optim": MUON,
        },
        toyworld="upright",
    )


def _tiles(size: int) -> Tiles:
    """Nine tiles of a quarter of the side, of an image half as large again: small ones have no room for gaps."""
    return Tiles(size=size // 2 * 3, scale=(0.5, 1.0), tile=size // 8 * 3, gray=0.66)


def relative_position(size: int) -> Recipe:
    """Nine tiles of 12 px for images of 32 px."""
    return Recipe("tiny", batch=128, minutes=2.5, fields={"hidden": 512, "views": _tiles(size), "optim": MUON})


def jigsaw(size: int) -> Recipe:
    """A hundred permutations of the same tiles."""
    fields = {"permutations": 100, "hidden": 128, "views": _tiles(size), "optim": MUON}
    return Recipe("tiny", batch=128, minutes=2.5, fields=fields)


def exemplar(size: int) -> Recipe:
    """Four copies of 64 images a step."""
    views = Copies(size=size, scale=(0.2, 1.0), gray=0.2, count=4)
    return Recipe("tiny", batch=64, minutes=2.5, fields={"out": 128, "views": views, "optim": MUON})


def counting(size: int) -> Recipe:
    """A hundred counts."""
    views = AnyFilter(size=size, scale=(0.5, 1.0), gray=0.33)
    return Recipe("tiny", batch=128, minutes=2.5, fields={"counts": 100, "views": views, "optim": MUON})
