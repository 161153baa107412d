r"""Video colorization: colour a gray frame by pointing at others, and the pointer becomes a tracker.

Vondrick, Shrivastava, Fathi, Guadarrama, Murphy, "Tracking Emerges by Colorizing Videos", ECCV 2018, arXiv:1806.09594.

    y_j = sum_i A_ij c_i,   A_ij = exp(f_i . f_j) / sum_k exp(f_k . f_j)                                     (eq. 1-2)
    L   = mean over cells j of the last frame of  -log y_j[c_j],   c one of 16 colours                         (eq. 3)

f sees light only; i runs over all cells of the frames before. Shapes: B clips, T frames, N cells of a map, D features, C
colours, S side. The colours are k-means of random pixels of some clips, once. What is kept is the encoder below the linear
layer that makes f: its maps follow things as well. Differs: without the paper's 3-D convolutions over neighbouring frames.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.core.dist import own_rows
from nolabel.core.random import generator
from nolabel.losses.cluster import kmeans
from nolabel.losses.correspondence import copy_nll
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
    views: LightAndColorClip = LightAndColorClip(size=256, frames=4)  # the paper: 6 frames a second
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, warmup_epochs=0, scaled=False, drops=(0.15,))

    def build(self, data, image):
        if not hasattr(image, "maps"):
            raise UserError("video_colorization points at places: take an encoder with maps, such as tiny_fine")
        self.encoder = image
        self.projector = nn.Conv2d(image.map_dims[self.level], self.out, 1)
        self.register_buffer("palette", torch.zeros(self.colors, 2))

    def begin_stage(self, t, data):
        rng, pixels = generator(0), []
        for batch in data.some(256):
            ab_B2P = self.views(batch, rng)["ab"].flatten(2)
            pixels.append(ab_B2P[:, :, torch.randint(ab_B2P.shape[2], (256,), generator=rng).to(ab_B2P.device)])
        pixels_N2 = torch.cat(pixels).float().mT.flatten(0, 1)
        self.palette.copy_(kmeans(pixels_N2[own_rows(len(pixels_N2))], self.colors)[0])

    def forward(self, views, t):
        light_BTSS, ab = views["light"][:, 0], views["ab"]
        B, T = light_BTSS.shape[:2]
        f = self.projector(self.encoder.maps(light_BTSS.flatten(0, 1)[:, None])[1][self.level])
        f_BTND = f.flatten(2).mT.unflatten(0, (B, T))
        cell = F.adaptive_avg_pool2d(ab.transpose(1, 2).flatten(0, 1).float(), f.shape[2:])
        cell_BTN2 = cell.flatten(2).mT.unflatten(0, (B, T))
        color_BTN = torch.cdist(cell_BTN2.flatten(1, 2), self.palette).argmin(-1).unflatten(1, (T, -1))
        f_BKD, color_BK = f_BTND[:, :-1].flatten(1, 2), color_BTN[:, :-1].flatten(1, 2)
        loss, accuracy = copy_nll(
            f_BTND[:, -1], f_BKD, color_BK, color_BTN[:, -1], self.colors, self.temperature
        )  # fmt: skip
        return loss, {"color_accuracy": accuracy}
