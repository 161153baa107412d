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
    """ViT-L/16, batch 2,048, 100 epochs: the authors' short run on ImageNet-1k, with its rate."""
    optim = Optim(
        "adamw", lr=5.66e-3, weight_decay=0.04, final_weight_decay=0.2, scaled=False, warmup_epochs=10, final_lr=1e-6,
        clip=3.0,
    )  # fmt: skip
    return Recipe("vit_large_patch16_224", batch=2048, epochs=100, fields={"prototypes": 65536, "optim": optim})


def esvit(size: int) -> Recipe:
    """ViT-S/16 in the place of the paper's Swin-T, batch 512, 300 epochs."""
    return Recipe("vit_small_patch16_224", batch=512, epochs=300)


def mugs(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 300 epochs: 20-NN 74.8 %, linear 78.2 % in the paper."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=300)
