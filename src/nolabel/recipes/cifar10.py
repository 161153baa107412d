"""One GPU and CIFAR-size images: ResNet-18 with the small stem, ViT-Tiny with 4-px patches.

nolabel train METHOD --data cifar10 --encoder resnet18 --recipe cifar10
"""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.image import MultiCrop, OneView, TwoViews


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


def dino(size: int) -> Recipe:
    """4,096 prototypes, two global crops of the image and four local ones of half its side."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=200,
        fields={
            "prototypes": 4096,
            "momentum": (0.9995, 1.0),
            "batchnorm": True,
            "views": MultiCrop(size=size, local_size=size // 2, locals=4, blur=(0.0, 0.0, 0.0)),
            "optim": Optim("lars", lr=0.3, weight_decay=1e-6, trust=0.02, warmup_epochs=10),
        },
    )


def mae(size: int) -> Recipe:
    """A ViT-Tiny and a narrow decoder; judged by fine-tuning."""
    return Recipe(
        "vit_tiny_patch16_224",
        batch=256,
        epochs=400,
        fields={
            "width": 192,
            "depth": 4,
            "heads": 3,
            "views": OneView(size=size),
            "optim": Optim("adamw", lr=2e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40),
        },
    )


def rotation(size: int) -> Recipe:
    """The paper's CIFAR-10 schedule, with a ResNet-18."""
    return Recipe("resnet18", batch=128, epochs=200, fields={"views": OneView(size=size, scale=(0.6, 1.0))})
