"""Views: augmentations as frozen dataclasses, batched, with one draw a sample; and masks, where True is hidden."""

from nolabel.views.image import BYOL_VIEWS, IMAGENET_MEAN, IMAGENET_STD, MultiCrop, OneView, TwoViews, plain, to_uint8
from nolabel.views.masks import (
    block_mask,
    cell_mask,
    index_mask,
    mask_indices,
    random_mask,
    restore,
    take,
    tube_mask,
)

__all__ = [
    "BYOL_VIEWS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MultiCrop",
    "OneView",
    "TwoViews",
    "block_mask",
    "cell_mask",
    "index_mask",
    "mask_indices",
    "plain",
    "random_mask",
    "restore",
    "take",
    "to_uint8",
    "tube_mask",
]
