"""The masked family; see the package."""

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import TOKENS, multi_crop, one_view
from nolabel.views.image import OneView


def mae(size: int) -> Recipe:
    """A decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "width": 96,
            "depth": 2,
            "heads": 3,
            "views": OneView(size=size, scale=(0.3, 1.0)),
            "optim": TOKENS,
        },
    )


def simmim(size: int) -> Recipe:
    """Cells of a quarter of the side, ten of sixteen hidden."""
    return Recipe("tiny_tokens", batch=256, minutes=2.5, fields={"views": one_view(size), "optim": TOKENS})


def beit(size: int) -> Recipe:
    """512 codes; half of the time goes to the tokenizer."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "min_block": 4,
            "codes": 512,
            "width": 64,
            "depth": 1,
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def um_mae(size: int) -> Recipe:
    """A decoder as light as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={"width": 96, "heads": 3, "views": one_view(size), "optim": TOKENS},
    )


def ijepa(size: int) -> Recipe:
    """Larger targets on the smaller grid; a predictor as wide as the encoder."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "target_scale": (0.15, 0.25),
            "width": 96,
            "depth": 2,
            "heads": 3,
            "momentum": (0.98, 1.0),
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def data2vec(size: int) -> Recipe:
    """Three layers of four as target, a faster teacher."""
    return Recipe(
        "tiny_tokens",
        batch=256,
        minutes=2.5,
        fields={
            "min_block": 4,
            "layers": 3,
            "momentum": (0.98, 0.999),
            "momentum_epochs": 5,
            "views": one_view(size),
            "optim": TOKENS,
        },
    )


def msn(size: int) -> Recipe:
    """Two small views, 256 prototypes."""
    return Recipe(
        "tiny_tokens",
        batch=128,
        minutes=2.5,
        fields={
            "prototypes": 256,
            "hidden": 512,
            "out": 128,
            "momentum": (0.98, 1.0),
            "views": multi_crop(size),
            "optim": TOKENS,
        },
    )
