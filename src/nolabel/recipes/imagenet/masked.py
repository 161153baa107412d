"""The masked family; see the package."""

from nolabel.recipes import Recipe


def mae(size: int) -> Recipe:
    """ViT-B/16, batch 4,096, 800 epochs."""
    return Recipe("vit_base_patch16_224", batch=4096, epochs=800)


def videomae(size: int) -> Recipe:
    """ViT-B on tubes, batch 2,048, 800 epochs of Kinetics-400."""
    return Recipe("vit_base_tubes", batch=2048, epochs=800)


def audio_mae(size: int) -> Recipe:
    """ViT-B on 16 x 16 patches, batch 512, 32 epochs of AudioSet."""
    return Recipe("vit_base_mel", batch=512, epochs=32)
