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


def simmim(size: int) -> Recipe:
    """ViT-B/16, batch 2,048, 800 epochs: fine-tuned 83.8 % in the paper."""
    return Recipe("vit_base_patch16_224", batch=2048, epochs=800)


def beit(size: int) -> Recipe:
    """ViT-B/16, batch 2,048, 800 epochs for tokenizer and encoder each: fine-tuned 83.2 % in the paper."""
    return Recipe("vit_base_patch16_224", batch=2048, epochs=800)


def data2vec(size: int) -> Recipe:
    """ViT-B/16, batch 2,048, 800 epochs: fine-tuned 84.2 % in the paper."""
    return Recipe("vit_base_patch16_224", batch=2048, epochs=800)


def ijepa(size: int) -> Recipe:
    """ViT-H/14, batch 2,048, 300 epochs: linear 79.3 % in the paper, with a predictor of 12 blocks."""
    return Recipe("vit_huge_patch14_224", batch=2048, epochs=300, fields={"depth": 12})


def msn(size: int) -> Recipe:
    """ViT-S/16, batch 1,024, 800 epochs."""
    return Recipe("vit_small_patch16_224", batch=1024, epochs=800)
