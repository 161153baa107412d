r"""Jigsaw: tell by which of a set of known permutations the tiles of an image were shuffled.

Noroozi, Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016,
arXiv:1603.09246.

    L = 1 / B S  sum_i sum_s  CE( h([ f(x_i,pi(1)), ..., f(x_i,pi(K)) ]), index of pi ),   pi = pi_is

Shapes: B images, K tiles, S shuffles of each image a step, N permutations, D features, H width. A tile is encoded once and
its features are shuffled, which is the same and cheaper. The table of permutations lies in the state. What is kept looks at
an image as the net has learned to, tile by tile: the mean of the features of all, each from the middle of its cell, as by
Kolesnikov, Zhai, Beyer (CVPR 2019). Differs: the table is chosen for the largest smallest Hamming distance, the paper's
mean being no better than chance (`criterion`); views are those of Kolesnikov et al., schedule and a wide layer for each
tile, then one for all of them, those of VISSL (Goyal, Mahajan, Gupta, Misra, ICCV 2019).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.wrapped import Tilewise
from nolabel.views.tiles import Tiles, permutation_table


class Jigsaw(Method):
    permutations: int = 1000
    """N"""
    shuffles: int = 8
    """S"""
    criterion: Literal["max_min", "max_mean"] = "max_min"
    """what the distances of a new permutation to the chosen ones are judged by"""
    hidden: int = 1000
    """H, features of a tile before they are joined"""
    views: Tiles = Tiles()
    optim: Optim = Optim(
        "sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, warmup_epochs=5, drops=(0.29, 0.57, 0.86, 0.95)
    )

    def build(self, data, image):
        tiles = self.views.grid**2
        self.encoder = Tilewise(image, self.views.grid, self.views.tile, self.views.standardise)
        self.tile = nn.Sequential(nn.Linear(image.dim, self.hidden, bias=False), nn.BatchNorm1d(self.hidden), nn.ReLU())
        self.join = nn.Linear(tiles * self.hidden, self.permutations)
        self.register_buffer("table", permutation_table(tiles, self.permutations, self.criterion))

    def forward(self, views, t):
        h_BKD = self.encoder.each(views["tiles"])
        h_BKH = self.tile(h_BKD.flatten(0, 1)).unflatten(0, h_BKD.shape[:2])
        which_BS = torch.randint(len(self.table), (len(h_BKH), self.shuffles), device=h_BKH.device)
        image_B11 = torch.arange(len(h_BKH), device=h_BKH.device).view(-1, 1, 1)
        shuffled_BSKH = h_BKH[image_B11, self.table[which_BS]]
        logits = self.join(shuffled_BSKH.flatten(2)).float().flatten(0, 1)
        accuracy = (logits.argmax(1) == which_BS.flatten()).float().mean()
        return F.cross_entropy(logits, which_BS.flatten()), {"permutation_accuracy": accuracy}
