"""What a token encoder sees, as galleries: where its summary token looks, and its patch features as colour."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nolabel.core import Batch
from nolabel.report.pictures import Gallery, attention_overlay, pca_colours


def token_pictures(encoder: Any, images: Tensor, transform: Callable[[Batch], Tensor]) -> list[Gallery]:
    """Galleries of images uint8 (B, S, S, C), one column an image; none where the tokens are not a plane of patches.

    `transform` makes a batch of them ready for the encoder: a `TokenEncoder`, with maps where it has `attention(x)`,
    (B, heads, L).
    """
    if len(getattr(encoder, "grid", ())) != 2:
        return []
    shown = list(images.numpy())
    x = transform({"image": images})
    with torch.no_grad():
        tokens_BLD = encoder.encode(encoder.embed(x))[:, 1:]
        try:
            maps_BHL = encoder.attention(x).float().cpu().numpy()
        except (AttributeError, NotImplementedError):  # not every block computes its weights
            maps_BHL = None
    colours = list(pca_colours(tokens_BLD, encoder.grid))
    galleries = []
    if maps_BHL is not None:
        planes = maps_BHL.mean(1).reshape(-1, *encoder.grid)
        seen: list[np.ndarray] = [attention_overlay(image, plane) for image, plane in zip(shown, planes)]
        caption = "Attention of the last block from the summary token, mean over heads; bright is where it looks."
        galleries.append(Gallery("Attention", caption, [("input", shown), ("attention", seen)]))
    caption = "First three principal components of the patch features as red, green and blue: alike colours are alike."
    galleries.append(Gallery("Patch features", caption, [("input", shown), ("features", colours)]))
    return galleries
