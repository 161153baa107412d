"""Views: augmentations as frozen dataclasses, batched, with one draw a sample; and masks, where True is hidden."""

from nolabel.views.image import BYOL_VIEWS, IMAGENET_MEAN, IMAGENET_STD, MultiCrop, OneView, TwoViews, plain, to_uint8
from nolabel.views.masks import (
    block_mask,
    cell_mask,
    choice_block_mask,
    context_length,
    hidden_first,
    index_mask,
    mask_indices,
    multiblock,
    random_mask,
    restore,
    stratified_block_mask,
    take,
    tube_mask,
    uniform_mask,
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
    "choice_block_mask",
    "context_length",
    "hidden_first",
    "index_mask",
    "mask_indices",
    "multiblock",
    "plain",
    "random_mask",
    "restore",
    "stratified_block_mask",
    "take",
    "to_uint8",
    "tube_mask",
    "uniform_mask",
]
