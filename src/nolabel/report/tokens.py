"""What a token encoder sees, as galleries: where its summary token looks, and its patch features as colour."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nolabel.report.pictures import Gallery, Pixels, attention_overlay, pca_colours


def token_pictures(encoder: Any, x: Tensor, shown: list[Pixels]) -> list[Gallery]:
    """Galleries of samples x ready for the encoder, one column a sample; none where the tokens are not a plane of patches.

    encoder   a `TokenEncoder`, with maps where it has `attention(x)`, (B, heads, L)
    shown     a picture of each sample; of a clip its middle frame, which is the one whose tokens are shown
    """
    grid = tuple(getattr(encoder, "grid", ()))
    if len(grid) not in (2, 3):
        return []
    with torch.no_grad():
        x = x.to(next(encoder.parameters(), x).device)
        tokens_BLD = _plane(encoder.encode(encoder.embed(x))[:, 1:].float().cpu(), grid)
        try:
            maps_BL = _plane(encoder.attention(x).float().cpu().mean(1), grid)
        except (AttributeError, NotImplementedError):  # not every block computes its weights
            maps_BL = None
    if len(tokens_BLD) > 1:  # what all samples have at a place is its position
        tokens_BLD = tokens_BLD - tokens_BLD.mean(0, keepdim=True)
    colours = list(pca_colours(tokens_BLD, grid[-2:]))  # type: ignore[arg-type]
    galleries = []
    if maps_BL is not None:
        planes = maps_BL.numpy().reshape(-1, *grid[-2:])
        seen: list[np.ndarray] = [attention_overlay(image, plane) for image, plane in zip(shown, planes)]
        caption = "Attention of the last block from the summary token, mean over heads; bright is where it looks."
        galleries.append(Gallery("Attention", caption, [("input", shown), ("attention", seen)]))
    caption = (
        "First three principal components of the patch features, less the mean of their place, as red, green and blue: "
        "alike colours are alike."
    )
    galleries.append(Gallery("Patch features", caption, [("input", shown), ("features", colours)]))
    return galleries


def _plane(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The tokens of the middle of the time axis, where the grid has one: (B, L, ...) -> (B, h * w, ...)."""
    return tokens if len(grid) == 2 else tokens.unflatten(1, (grid[0], -1))[:, grid[0] // 2]
