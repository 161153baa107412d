r"""CPC v2: from the patches above, know which patch lies some rows below among all patches of the batch.

Henaff, Srinivas, De Fauw, Razavi, Doersch, Eslami, van den Oord, "Data-Efficient Image Recognition with Contrastive
Predictive Coding", ICML 2020, arXiv:1905.09272.

    L = - sum_k  mean_ij  log  exp(zhat_{i+k,j} . z_{i+k,j}) / sum_l exp(zhat_{i+k,j} . z_l),   zhat = W_k c_ij  (eq. 1, 2)

Shapes: B images, h x w patches, D features, E size of targets, l over all patches of all ranks. c_ij sees rows up to i.
Row offsets k begin where patches no longer share pixels. The steps from v1 to v2 are fields: `layer_norm` (LN),
`directions` (BU, HP), views.patch (LP), views.drop_color (RC) and the other fields of patches (PA); `cpc_v1` has none of
them. Differs: patches vary by crop, flip, jitter and gray instead of two AutoAugment operations, shear and elastic.
"""

import math

import torch
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.encoders.wrapped import Patchwise
from nolabel.losses.contrastive import info_nce_places
from nolabel.networks.context import RowContext
from nolabel.views.parts import Patches


class CPC(Method):
    directions: int = 4
    """1 predicts downwards, 2 upwards too, 4 to both sides too, each with a context net of its own"""
    layer_norm: bool = True
    """layer instead of batch norm in the encoder; batch norm lets patches of an image know of each other"""
    target: int = 64
    """E; 0 predicts the features themselves, as version 1"""
    scale: float = 0.1
    """factor of the predictions"""
    last: int = 5
    """largest row offset k, where the grid has so many"""
    width: int = 256
    """of the context net's blocks"""
    depth: int = 5
    """blocks of a context net"""
    views: Patches = Patches()
    optim: Optim = Optim("adam", lr=2e-4, betas=(0.8, 0.999), weight_decay=0.0, scaled=False, warmup_epochs=0)

    def build(self, data, image):
        if not self.offsets:
            raise UserError("no two rows of patches are apart: take a smaller views.patch or a larger views.stride")
        dim = self.target or image.dim
        self.encoder = Patchwise(image, self.views.patch, self.views.stride, self.layer_norm)
        self.context = nn.ModuleList(RowContext(image.dim, self.width, self.depth) for _ in range(self.directions))
        self.ahead = nn.ModuleList(
            nn.ModuleList(nn.Linear(image.dim, dim) for _ in self.offsets) for _ in range(self.directions)
        )
        self.embed = nn.Linear(image.dim, dim) if self.target else nn.Identity()

    @property
    def offsets(self):
        first = math.ceil(self.views.patch / self.views.stride)
        return range(first, min(self.last, self.views.grid - 1) + 1)

    def forward(self, views, t):
        z_BhwD = self.encoder.each(views["patches"])
        target_BhwE = self.embed(z_BhwD)
        place_Bhw = torch.arange(target_BhwE[..., 0].numel(), device=z_BhwD.device).view(z_BhwD.shape[:3])
        losses, right = [], []
        for turn, context, ahead in zip(TURNS, self.context, self.ahead):
            c_BhwD = context(turn(z_BhwD))
            for k, linear in zip(self.offsets, ahead):
                guess_ME = self.scale * linear(c_BhwD[:, :-k]).flatten(0, 2)
                loss, accuracy = info_nce_places(guess_ME, target_BhwE.flatten(0, 2), turn(place_Bhw)[:, k:].flatten())
                losses.append(loss)
                right.append(accuracy)
        return torch.stack(losses).sum(), {"patch_accuracy": torch.stack(right).mean()}


TURNS = (
    lambda x_Bhw: x_Bhw,
    lambda x_Bhw: x_Bhw.flip(1),
    lambda x_Bhw: x_Bhw.transpose(1, 2),
    lambda x_Bhw: x_Bhw.transpose(1, 2).flip(1),
)
"""how a grid is laid so that its rows are read downwards, upwards, to the right and to the left"""
