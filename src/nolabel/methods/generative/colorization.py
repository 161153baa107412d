r"""Colorization: guess the colours of an image from its light, as classes of which rare ones count more.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, arXiv:1603.08511.

    L = - sum_{h,w} v(Z_hw) sum_q Z_hwq log softmax(g(f(light)))_hwq,   v = w_{argmax Z}                         (eq. 2-3)
    w_q ~ 1 / ((1 - lambda) p~_q + lambda / Q),   E_p~[w] = 1                                                     (eq. 4)
    regression:  L = 1/2 sum_{h,w} | ab - g(f(light)) |^2                                                         (eq. 1)

Shapes: B images, Q colours, h x w places that are painted; Z their soft classes over the 5 nearest colours. The encoder
has one channel in. Images without colour (no |a| or |b| above 5) do not count. Differs: 261 colours of a screen instead
of the authors' grid of 313; their frequency is counted as training goes on, over all that was seen, not beforehand; the
mean is over places.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.losses.generative import soft_cross_entropy
from nolabel.losses.weighted import weighted_mean
from nolabel.networks.painter import Painter, map_shape
from nolabel.views.color import lab_to_rgb
from nolabel.views.lab import LightAndColor
from nolabel.views.palette import Palette


class Colorization(Method):
    regression: bool = False
    """predict a and b themselves, which gives the greyest mean of what is possible"""
    rebalance: float = 0.5
    """lambda: 1 weighs all colours alike"""
    temperature: float = 0.38
    """of the annealed mean that makes pictures"""
    doublings: int = 3
    """of the side, from the encoder's last map to the places that are painted"""
    width: int = 256
    """channels of the painter's first map, halved from map to map"""
    views: LightAndColor = LightAndColor(size=176, scale=(0.3, 1.0))
    optim: Optim = Optim(
        "adam", lr=3e-5, betas=(0.9, 0.99), weight_decay=1e-3, warmup_epochs=0, scaled=False, drops=(0.45, 0.85), drop=0.316
    )  # fmt: skip

    def build(self, data, image):
        self.encoder = image
        self.palette = Palette(uniform=self.rebalance)
        outputs = 2 if self.regression else len(self.palette)
        self.painter = Painter(map_shape(image, self.views.size)[0], outputs, self.doublings, self.width)

    def forward(self, views, t):
        painted = self.paint(views["light"])
        ab_B2hw = F.adaptive_avg_pool2d(views["ab"].float(), painted.shape[2:])
        coloured_B = (views["ab"].abs() > 5).flatten(1).any(1).float()
        if self.regression:
            loss_B = 0.5 * (ab_B2hw / 100 - painted).square().sum(1).mean((1, 2))
            return weighted_mean(loss_B, coloured_B), {}
        which_BhwK, weight_BhwK = self.palette.encode(ab_B2hw)
        if self.training:
            self.palette.watch(which_BhwK, weight_BhwK * coloured_B.view(-1, 1, 1, 1))
        rare_Bhw = self.palette.weights()[which_BhwK[..., 0]]
        loss_Bhw = rare_Bhw * soft_cross_entropy(painted, which_BhwK, weight_BhwK)
        right = (painted.argmax(1) == which_BhwK[..., 0]).float().mean()
        return weighted_mean(loss_Bhw.mean((1, 2)), coloured_B), {"color_accuracy": right}

    def paint(self, light):
        """Logits (B, Q, h, w), or a and b in hundreds (B, 2, h, w)."""
        return self.painter(self.encoder.maps(light)[1][-1]).float()

    def show(self, views, t):
        painted = self.paint(views["light"])
        ab = 100 * painted if self.regression else self.palette.decode(painted, self.temperature)
        light = 50 + 50 * views["light"].float()
        ab = F.interpolate(ab, light.shape[2:], mode="bilinear")
        pictures = {"input": views["ab"].float(), "light": torch.zeros_like(ab), "painted": ab}
        return {name: lab_to_rgb(torch.cat((light, colour), 1)) for name, colour in pictures.items()}
