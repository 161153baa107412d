"""Colours as classes: the plane of a and b in squares, how often each is seen, and back to colours.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, arXiv:1603.08511, section 2. Shapes: B images, h x w
places, Q colours, K nearest colours of a place.
"""

from functools import cache

import torch
from torch import Tensor, nn

from nolabel.core.dist import sum_over_ranks
from nolabel.views.color import rgb_to_lab


@cache
def colours(step: float = 10.0) -> Tensor:
    """Centres (Q, 2) of the squares of side `step` in which colours of a screen lie: 261 for 10.

    The paper's 313 come from a grid file of its own; a grid of 64 levels of red, green and blue fills 261 squares.
    """
    level = torch.linspace(0, 1, 64, device="cpu")
    rgb = torch.stack(torch.meshgrid(level, level, level, indexing="ij")).flatten(1)[None, :, :, None]
    return (rgb_to_lab(rgb)[0, 1:, :, 0] / step).round().T.unique(dim=0) * step


class Palette(nn.Module):
    """Soft classes of colours, and weights that make rare ones count."""

    centers: Tensor
    smooth: Tensor
    seen: Tensor

    def __init__(self, step: float = 10.0, sigma: float = 5.0, nearest: int = 5, uniform: float = 0.5):
        """`uniform` is lambda of eq. 4: how much of the weights is alike for all colours; 1 switches them off."""
        super().__init__()
        self.sigma, self.nearest, self.uniform = sigma, nearest, uniform
        centers_Q2 = colours(step)
        distance_QQ = torch.cdist(centers_Q2, centers_Q2)
        smooth_QQ = torch.exp(-distance_QQ.square() / (2 * sigma**2))
        self.register_buffer("centers", centers_Q2.clone(), persistent=False)
        self.register_buffer("smooth", smooth_QQ / smooth_QQ.sum(1, keepdim=True), persistent=False)
        self.register_buffer("seen", torch.zeros(len(centers_Q2)))

    def __len__(self) -> int:
        return len(self.centers)

    @torch.no_grad()
    def encode(self, ab_B2hw: Tensor) -> tuple[Tensor, Tensor]:
        """The K nearest colours of each place, nearest first, and their weights, which sum to 1: (B, h, w, K) each."""
        place_P2 = ab_B2hw.float().permute(0, 2, 3, 1).flatten(0, 2)
        square_PQ = (place_P2[:, None] - self.centers).square().sum(-1)
        square_PK, which_PK = square_PQ.topk(self.nearest, largest=False)
        weight_PK = (-square_PK / (2 * self.sigma**2)).softmax(1)
        shape = (len(ab_B2hw), *ab_B2hw.shape[2:], self.nearest)
        return which_PK.view(shape), weight_PK.view(shape)

    @torch.no_grad()
    def watch(self, which_BhwK: Tensor, weight_BhwK: Tensor) -> None:
        """Count colours, over all ranks."""
        counts_Q = torch.zeros_like(self.seen).index_add_(0, which_BhwK.flatten(), weight_BhwK.flatten())
        self.seen += sum_over_ranks(counts_Q)

    @torch.no_grad()
    def weights(self) -> Tensor:
        """w_q ~ 1 / ((1 - lambda) p~_q + lambda / Q), sum_q p~_q w_q = 1 (eq. 4); p~ is smooth, of what was seen (Q,).

        The uniform part is over colours that can have been seen at all.
        """
        seen_Q = torch.where(self.seen.sum() > 0, self.seen, 1.0)  # before any image all colours count alike
        prior_Q = (seen_Q / seen_Q.sum()) @ self.smooth
        present_Q = (prior_Q > 1e-9).float()
        flat_Q = present_Q / present_Q.sum().clamp(min=1)
        weight_Q = present_Q / ((1 - self.uniform) * prior_Q + self.uniform * flat_Q).clamp(min=1e-12)
        if self.uniform == 1:
            weight_Q = torch.ones_like(weight_Q)
        return weight_Q / (prior_Q * weight_Q).sum().clamp(min=1e-12)

    def decode(self, logits_BQhw: Tensor, temperature: float = 0.38) -> Tensor:
        """Annealed mean: sum_q softmax(logits / T)_q centre_q (eq. 5): (B, 2, h, w)."""
        p_BQhw = (logits_BQhw.float() / temperature).softmax(1)
        return torch.einsum("bqhw,qc->bchw", p_BQhw, self.centers)
