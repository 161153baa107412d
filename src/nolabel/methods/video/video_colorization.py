r"""Video colorization: colour a gray frame by pointing at others, and the pointer becomes a tracker.

Vondrick, Shrivastava, Fathi, Guadarrama, Murphy, "Tracking Emerges by Colorizing Videos", ECCV 2018, arXiv:1806.09594.

    y_j = sum_i A_ij c_i,   A_ij = exp(f_i . f_j) / sum_k exp(f_k . f_j)                                     (eq. 1-2)
    L   = mean over cells j of the last frame of  -log y_j[c_j],   c one of 16 colours                         (eq. 3)

f sees light only; i runs over all cells of the frames before. Shapes: B clips, T frames, N cells of a map, D features, C
colours. The colours are k-means of the first batch, started at the farthest points, and stay. Differs: without the
paper's 3-D convolutions over neighbouring frames.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.core.dist import gather
from nolabel.losses.correspondence import copy_nll
from nolabel.networks.points import farthest
from nolabel.views.video import LightAndColorClip


class VideoColorization(Method):
    colors: int = 16
    """C"""
    temperature: float = 1.0
    """divides the products of features"""
    level: int = -1
    """which of the encoder's maps is f, fine to coarse"""
    out: int = 64
    """D"""
    views: LightAndColorClip = LightAndColorClip(size=256, frames=4, stride=4)
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, warmup_epochs=0, scaled=False, drops=(0.15,))

    def build(self, data, image):
        if not hasattr(image, "maps"):
            raise UserError("video_colorization points at places: take an encoder with maps, such as tiny_fine")
        self.encoder = image
        self.projector = nn.Conv2d(image.map_dims[self.level], self.out, 1)
        side = torch.linspace(-40.0, 40.0, 1 + round(self.colors**0.5))
        self.register_buffer("palette", torch.cartesian_prod(side, side)[: self.colors].clone())

    def forward(self, views, t):
        light_BTSS, ab = views["light"][:, 0], views["ab"]
        B, T = light_BTSS.shape[:2]
        f = self.projector(self.encoder.maps(light_BTSS.flatten(0, 1)[:, None])[1][self.level])
        f_BTND = f.flatten(2).mT.unflatten(0, (B, T))
        cell = F.adaptive_avg_pool2d(ab.transpose(1, 2).flatten(0, 1).float(), f.shape[2:])
        cell_BTN2 = cell.flatten(2).mT.unflatten(0, (B, T))
        if t.step == 0:
            self.palette.copy_(palette_of(gather(cell_BTN2[:, 0]).flatten(0, 1), self.colors))
        color_BTN = torch.cdist(cell_BTN2.flatten(1, 2), self.palette).argmin(-1).unflatten(1, (T, -1))
        f_BKD, color_BK = f_BTND[:, :-1].flatten(1, 2), color_BTN[:, :-1].flatten(1, 2)
        loss, accuracy = copy_nll(
            f_BTND[:, -1], f_BKD, color_BK, color_BTN[:, -1], self.colors, self.temperature
        )  # fmt: skip
        return loss, {"color_accuracy": accuracy}


@torch.no_grad()
def palette_of(x_N2, count, rounds=10):
    """k-means without waiting for the device: from the points farthest from the mean and from each other."""
    with_mean_M2 = torch.cat((x_N2.mean(0, keepdim=True), x_N2))
    center_C2 = with_mean_M2[farthest(with_mean_M2[None], count + 1)[0, 1:]]
    for _ in range(rounds):
        member_NC = F.one_hot(torch.cdist(x_N2, center_C2).argmin(1), count).to(x_N2.dtype)
        size_C1 = member_NC.sum(0)[:, None]
        center_C2 = torch.where(size_C1 > 0, member_NC.T @ x_N2 / size_C1.clamp_min(1), center_C2)
    return center_C2
