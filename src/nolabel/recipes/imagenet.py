"""What the papers trained: encoder, batch and length for the fields that stand in the method files."""

from nolabel.recipes import Recipe


def simclr(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 100 epochs: 64.5 % linear top-1 in the paper's table B.1."""
    return Recipe("resnet50", batch=4096, epochs=100)


def dino(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 100 epochs."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=100)


def mae(size: int) -> Recipe:
    """ViT-B/16, batch 4,096, 800 epochs."""
    return Recipe("vit_base_patch16_224", batch=4096, epochs=800)


def rotation(size: int) -> Recipe:
    """ResNet-50, batch 192 of four turns, 35 epochs."""
    return Recipe("resnet50", batch=192, epochs=35)
