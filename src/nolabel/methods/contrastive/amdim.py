r"""AMDIM: Deep InfoMax across two views of an image and across scales.

Bachman, Hjelm, Buchwalter, "Learning Representations by Maximizing Mutual Information Across Views", NeurIPS 2019,
arXiv:1906.00910.

    s_ijl = < phi(source_i of one view), phi(place l of the other view of image j) > / sqrt(U)
    L = mean of  -log exp(s_iil) / ( exp(s_iil) + sum_{j != i, l'} exp(s_ijl') )                              (eq. 3)
    with s <- c tanh(s / c) and + 0.05 s^2, summed over source -> target: 1 -> coarse, 1 -> fine, coarse -> coarse

Shapes: B images, U units, L places of a map. Both directions of the views are averaged. Differs: any encoder, though those
with padding and batch norm tell a place something about the whole, which the paper's own net avoids; views are flipped
apart from each other; the coarse source is one place drawn for the whole batch.
"""

import math

import torch

from nolabel.core import Method, Optim
from nolabel.losses.information import mutual_information, place_scores, soft_clip
from nolabel.networks.scorer import Scorer
from nolabel.views.image import TwoViews


class AMDIM(Method):
    units: int = 2048
    """U, size of the space of the scores"""
    clip: float = 20.0
    """c, the largest score"""
    penalty: float = 0.05
    """weight of the squared scores before clipping"""
    fine: int = -2
    """which of the encoder's maps is the fine one; the coarse one is the last"""
    views: TwoViews = TwoViews(size=128, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.25, blur=(0.0, 0.0))
    optim: Optim = Optim("adam", lr=2e-4, betas=(0.8, 0.999), weight_decay=1e-5, scaled=False, warmup_epochs=1)

    def build(self, data, image):
        self.encoder = image
        self.whole = Scorer(image.dim, self.units, "bn")
        self.coarse_place = Scorer(image.map_dims[-1], self.units, "bn")
        self.fine_place = Scorer(image.map_dims[self.fine], self.units, "bn")

    def forward(self, views, t):
        h_2BD, maps = self.encoder.maps(torch.cat((views["a"], views["b"])))
        whole = self.whole(h_2BD).chunk(2)
        coarse = self.coarse_place(maps[-1].flatten(2).mT).chunk(2)
        fine = self.fine_place(maps[self.fine].flatten(2).mT).chunk(2)
        here = torch.randint(coarse[0].shape[1], (1,), device=h_2BD.device)
        one = [x_BLU.index_select(1, here).squeeze(1) for x_BLU in coarse]
        loss, logs = 0.0, {}
        for name, source, target in (
            ("whole_coarse", whole, coarse),
            ("whole_fine", whole, fine),
            ("coarse_coarse", one, coarse),
        ):
            for a, b in ((0, 1), (1, 0)):
                s_BNL = place_scores(source[a], target[b]) / math.sqrt(self.units)
                part, gap = mutual_information(soft_clip(s_BNL, self.clip), "nce")
                loss = loss + (part + self.penalty * s_BNL.square().mean()) / 2
            logs |= {f"{name}_loss": part.detach(), f"{name}_gap": gap}
        return loss, logs
