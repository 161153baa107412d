r"""Video colorization: colour a gray frame by pointing at another frame, and the pointer becomes a tracker.

Vondrick, Shrivastava, Fathi, Guadarrama, Murphy, "Tracking Emerges by Colorizing Videos", ECCV 2018, arXiv:1806.09594.

    y_j = sum_i A_ij c_i,   A_ij = exp(f_i . f_j) / sum_k exp(f_k . f_j)                                     (eq. 1-2)
    L   = mean over cells j of the last frame of  -log y_j[c_j],   c one of 16 clusters of chroma              (eq. 3)

f sees gray only; i runs over all cells of the frames before. Shapes: B clips, R reference frames, C colours, h x w
cells, D features. The clusters are those of the first batch (k-means from the farthest points), then fixed. Differs:
without the paper's 3-D convolutions over neighbouring frames; crops are augmented.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.core.dist import gather
from nolabel.losses.cluster import farthest_means
from nolabel.losses.correspondence import copy_nll
from nolabel.views.video import GrayAndColour


class VideoColorization(Method):
    colours: int = 16
    """C"""
    temperature: float = 1.0
    """divides the products of features"""
    out: int = 64
    """D"""
    views: GrayAndColour = GrayAndColour(size=256, frames=4, stride=4)
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, warmup_epochs=0, scaled=False, drops=(0.15,))

    def build(self, data, image):
        if not hasattr(image, "maps"):
            raise UserError("video_colorization points at places: take an encoder with maps, such as tiny_dense")
        self.encoder = image
        self.projector = nn.Conv2d(image.dim, self.out, 1)
        side = torch.linspace(-0.6, 0.6, 1 + round(self.colours**0.5))
        self.register_buffer("palette", torch.cartesian_prod(side, side)[: self.colours].clone())

    def forward(self, views, t):
        gray_BTSS, chroma = views["gray"][:, 0], views["chroma"]
        B, T = gray_BTSS.shape[:2]
        f = self.projector(self.encoder.maps(gray_BTSS.flatten(0, 1)[:, None])).float()
        f_BTND = f.flatten(2).mT.unflatten(0, (B, T))
        cell = F.adaptive_avg_pool2d(chroma.transpose(1, 2).flatten(0, 1), f.shape[2:])
        cell_BTN2 = cell.flatten(2).mT.unflatten(0, (B, T))
        if t.step == 0:
            self.palette.copy_(farthest_means(gather(cell_BTN2[:, :1].flatten(0, 2)), self.colours))
        colour_BTN = torch.cdist(cell_BTN2, self.palette).argmin(-1)
        loss, accuracy = copy_nll(
            f_BTND[:, -1], f_BTND[:, :-1].flatten(1, 2),
            colour_BTN[:, :-1].flatten(1, 2), colour_BTN[:, -1], self.colours, self.temperature,
        )  # fmt: skip
        return loss, {"colour_accuracy": accuracy}
