"""The distillation family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe


def dino(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 100 epochs."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=100)


def ibot(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 800 epochs: 20-NN 75.2 %, linear 77.9 % in the paper."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=800)


def dinov2(size: int) -> Recipe:
    """ViT-L/16, batch 2,048: the authors' short run on ImageNet-1k (vitl16_short), k-NN 81.6 %, linear 82.9 % there. Its 100
    epochs of 1,250 steps are 200 of the data. Their rate falls by a tenth from block to block towards the input, which there is
    no field for: take a lower one where the loss jumps.
    """
    optim = Optim(
        "adamw", lr=5.66e-3, weight_decay=0.04, final_weight_decay=0.4, scaled=False, warmup_epochs=20, final_lr=1e-6,
        clip=3.0,
    )  # fmt: skip
    return Recipe(
        "vit_large_patch16_224",
        batch=2048,
        epochs=200,
        fields={
            "prototypes": 65536, "bottleneck": 256, "untied": False, "sinkhorn": False, "momentum": (0.992, 1.0),
            "warmup_epochs": 60, "freeze_last": 2, "optim": optim,
        },
    )  # fmt: skip


def esvit(size: int) -> Recipe:
    """ViT-S/16 in the place of the paper's Swin-T, batch 512, 300 epochs."""
    return Recipe("vit_small_patch16_224", batch=512, epochs=300)


def mugs(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 300 epochs: 20-NN 74.8 %, linear 78.2 % in the paper."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=300)


def byol(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 1,000 epochs: 74.3 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=4096, epochs=1000)


def simsiam(size: int) -> Recipe:
    """ResNet-50, batch 512, 100 epochs: 68.1 % linear top-1 in the paper, and 71.3 % after 800."""
    return Recipe("resnet50", batch=512, epochs=100)
