"""The audio family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.audio import Wave


def cpc_speech(size: int) -> Recipe:
    """64 moments of 20 ms at 8 kHz, six of them told ahead among those of the same recording."""
    return Recipe(
        "tiny_wave",
        batch=16,
        minutes=2.5,
        fields={
            "hidden": 96,
            "ahead": 6,
            "negatives": "sequence",
            "views": Wave(rate=8000, seconds=1.28, level=1.0),
            "optim": Optim("adamw", lr=1e-3, weight_decay=0.01, scaled=False, warmup_epochs=0.2),
        },
        toyworld="speech",
        form={"seconds": 1.28},
    )
