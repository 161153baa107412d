"""The contrastive family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import OneView, TwoViews


def simclr(size: int) -> Recipe:
    """The setting of most published CIFAR-10 clocks: 200 epochs, batch 512, SGD 0.06 per 128 samples."""
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.12, weight_decay=5e-4, warmup_epochs=10),
        },
    )


def moco_v2(size: int) -> Recipe:
    """The authors' CIFAR-10 demonstration, both views as queries: 85.3 % 200-NN there. It adds both losses at rate 0.06 and
    decay 5e-4; their mean takes the same steps at twice the rate, 0.06 per 256, and half the decay.
    """
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.1,
            "momentum": 0.99,
            "queue": 4096,
            "hidden": 0,
            "symmetric": True,
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.06, weight_decay=2.5e-4, warmup_epochs=0),
        },
    )


def moco_v3(size: int) -> Recipe:
    """The heads, views and LARS of solo-learn, in a fifth of its 1,000 epochs."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=200,
        fields={
            "layers": 2,
            "last_norm": False,
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0), solarize=(0.0, 0.2)),
            "optim": Optim("lars", lr=0.3, weight_decay=1e-6, trust=0.02, trust_clip=True, warmup_epochs=10),
        },
    )


def nnclr(size: int) -> Recipe:
    """A queue of 4,096, less than a tenth of the data."""
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "queue": 4096,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.12, weight_decay=5e-4, warmup_epochs=10),
        },
    )


def supcon(size: int) -> Recipe:
    """The paper's batch and rate for CIFAR-10, 200 of its 1,000 epochs."""
    return Recipe(
        "resnet18",
        batch=1024,
        epochs=200,
        fields={"views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))},
    )


def instance_discrimination(size: int) -> Recipe:
    """The authors' CIFAR-10 setting: cross-entropy over the whole bank; 80.8 % k-NN in the paper."""
    return Recipe(
        "resnet18",
        batch=128,
        epochs=200,
        fields={
            "temperature": 0.1,
            "negatives": 0,
            "softmax": True,
            "views": OneView(size=size, jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, gray=0.2),
            "optim": Optim("sgd", lr=0.06, weight_decay=5e-4, warmup_epochs=0, drops=(0.4, 0.6, 0.8)),
        },
    )
