"""The redundancy family; see the package. The heads, views and LARS of solo-learn, but for LeJEPA."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.cifar10 import MUON
from nolabel.views.image import MultiCrop, TwoViews

LARS = Optim("lars", lr=0.3, weight_decay=1e-4, trust=0.02, trust_clip=True, warmup_epochs=10)


def barlow_twins(size: int) -> Recipe:
    """92.1 % linear there."""
    views = TwoViews(size=size, jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0), solarize=(0.0, 0.2))
    fields = {"hidden": 2048, "out": 2048, "scale": 0.1, "views": views, "optim": LARS}
    return Recipe("resnet18", batch=256, epochs=1000, fields=fields)


def vicreg(size: int) -> Recipe:
    """92.1 % linear there, where the variance term has no half: its weight is twice as large here."""
    views = TwoViews(
        size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0), solarize=(0.1, 0.1)
    )  # fmt: skip
    fields = {"variance": 50.0, "hidden": 2048, "out": 2048, "views": views, "optim": LARS}
    return Recipe("resnet18", batch=256, epochs=1000, fields=fields)


def lejepa(size: int) -> Recipe:
    """Two crops, a head of 512, 256 directions. Begun: 40.6."""
    views = MultiCrop(
        size=size, scale=(0.2, 1.0), locals=0, jitter=(0.4, 0.4, 0.4, 0.2), blur=(0.0, 0.0, 0.0),
        solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip
    fields = {"hidden": 512, "slices": 256, "views": views, "optim": MUON}
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)
