r"""Split-brain autoencoder: one half of the net paints the colours from the light, the other the light from the colours.

Zhang, Isola, Efros, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction", CVPR 2017,
arXiv:1611.09842.

    L = CE( G1(F1(light)), classes of ab ) + CE( G2(F2(ab)), classes of light ),   F = (F1, F2)                  (eq. 1-4)

Shapes: B images, Q colours, 100 classes of light, h x w places that are painted, D features of either half. What is kept is
both halves, 2 D features: no weight of one sees what the other sees. Differs: the halves are full encoders each, so choose
one of half the width to compare at equal size; 261 colours, as in our colorization.
"""

import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.wrapped import LightAndColour
from nolabel.losses.generative import soft_cross_entropy
from nolabel.networks.painter import Painter, map_shape
from nolabel.views.image import OneView
from nolabel.views.palette import Palette

LIGHTS = 100


class SplitBrain(Method):
    doublings: int = 3
    """of the side, from the encoders' last map to the places that are painted"""
    width: int = 256
    """channels of the painters' first map, halved from map to map"""
    views: OneView = OneView(size=180, scale=(0.3, 1.0))
    optim: Optim = Optim(
        "adam", lr=3e-5, betas=(0.9, 0.99), weight_decay=1e-3, warmup_epochs=0, scaled=False, drops=(0.45, 0.85), drop=0.316
    )  # fmt: skip

    def build(self, data, image):
        dim = map_shape(image, self.views.size)[0]
        self.encoder = LightAndColour(image, "lab", self.views.mean, self.views.std)
        self.palette = Palette()
        self.painters = nn.ModuleList(Painter(dim, n, self.doublings, self.width) for n in (len(self.palette), LIGHTS))

    def forward(self, views, t):
        light, colour = self.encoder.split(views["x"])
        ab_logits = self.painters[0](self.encoder.light.maps(light)[1][-1])
        light_logits = self.painters[1](self.encoder.color.maps(colour)[1][-1])
        where = ab_logits.shape[2:]
        light_Bhw = F.adaptive_avg_pool2d(50 + 50 * light[:, :1], where)[:, 0]
        ab_B2hw = F.adaptive_avg_pool2d(40 * colour[:, 1:], where)
        ab_loss = soft_cross_entropy(ab_logits, *self.palette.encode(ab_B2hw)).mean()
        light_class = light_Bhw.long().clamp(0, LIGHTS - 1)
        light_loss = F.cross_entropy(light_logits.float(), light_class)
        return ab_loss + light_loss, {"ab_loss": ab_loss.detach(), "light_loss": light_loss.detach()}
