"""The contrastive family; see the package."""

from nolabel.recipes import Recipe


def simclr(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 100 epochs: 64.5 % linear top-1 in the paper's table B.1."""
    return Recipe("resnet50", batch=4096, epochs=100)


def moco_v2(size: int) -> Recipe:
    """ResNet-50, batch 256, 200 epochs: 67.5 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=256, epochs=200)


def moco_v1(size: int) -> Recipe:
    """ResNet-50, batch 256, 200 epochs: 60.6 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=256, epochs=200)


def moco_v3(size: int) -> Recipe:
    """ViT-S/16, batch 4,096, 300 epochs: 73.2 % linear top-1 in the paper, with 12 heads a block where timm's has 6."""
    return Recipe("vit_small_patch16_224", batch=4096, epochs=300)


def nnclr(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 1,000 epochs: 75.4 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=4096, epochs=1000)


def simclr_v2(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 800 epochs: 71.7 % linear top-1 in the paper, 79.8 % with its largest net."""
    return Recipe("resnet50", batch=4096, epochs=800)


def supcon(size: int) -> Recipe:
    """ResNet-50, batch 6,144, 350 epochs."""
    return Recipe("resnet50", batch=6144, epochs=350)


def instance_discrimination(size: int) -> Recipe:
    """ResNet-50, batch 256, 200 epochs: 54.0 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=256, epochs=200)


def pirl(size: int) -> Recipe:
    """ResNet-50, batch 1,024, 800 epochs: 63.6 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=1024, epochs=800)


def cmc(size: int) -> Recipe:
    """Two ResNet-50, batch 256, 240 epochs: 66.2 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=256, epochs=240)


def amdim(size: int) -> Recipe:
    """ResNet-50, batch 200, 100 epochs; 68.1 % linear top-1 with the paper's own net."""
    return Recipe("resnet50", batch=200, epochs=100)


def cpc_v2(size: int) -> Recipe:
    """ResNet-50, batch 512, 200 epochs: 63.8 % linear top-1 in the paper, 71.5 % with its ResNet-161."""
    return Recipe("resnet50", batch=512, epochs=200)


def cpc_v1(size: int) -> Recipe:
    """ResNet-101: 48.7 % linear top-1 in the paper, which does not say how long; batch and length are those of cpc_v2."""
    return Recipe("resnet101", batch=512, epochs=200)


def infomin(size: int) -> Recipe:
    """ResNet-50, batch 256, 800 epochs: 73.0 % linear top-1 in the paper."""
    return Recipe("resnet50", batch=256, epochs=800)
