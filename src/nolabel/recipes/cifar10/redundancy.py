"""The redundancy family; see the package. The heads, views and LARS of solo-learn, but for LeJEPA."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
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
    """Two crops and four small ones, the paper's weight and its decay for convolutional nets. Not run yet."""
    views = MultiCrop(
        size=size, scale=(0.3, 1.0), local_size=size // 2, local_scale=(0.05, 0.3), locals=4,
        jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0, 0.0), solarize=(0.2, 0.2, 0.2),
    )  # fmt: skip
    optim = Optim("adamw", lr=5e-4, weight_decay=5e-4, scaled=False, warmup_epochs=10, final_lr=5e-7)
    return Recipe("resnet18", batch=256, epochs=400, fields={"views": views, "optim": optim})
