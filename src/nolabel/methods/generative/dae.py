r"""Denoising autoencoder: rebuild the clean input from a corrupted copy of it.

Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising Autoencoders", ICML
2008; "Stacked Denoising Autoencoders", JMLR 11, 2010.

    x~ ~ q(x~ | x),   z = g(f(x~)),   J = the coordinates that q has hit
    L  = mean_b [ alpha sum_{j in J} l(x_j, z_j) + beta sum_{j not in J} l(x_j, z_j) ]               (JMLR, section 4.1)

Shapes: B images with n = C S S values in [0, 1], D features. l is cross-entropy or the square. The noise is drawn anew each
time; the encoder that is kept sees clean images. The paper's net is the encoder `dense`: sigmoid layers on pixels.
Differs: the decoder has weights of its own; any encoder of images will do.
"""

from typing import Literal

from nolabel.core import Method, Optim
from nolabel.losses.generative import emphasised
from nolabel.networks.painter import Code, Decoder
from nolabel.views.corrupt import corrupt
from nolabel.views.image import OneView


class DAE(Method):
    noise: Literal["gauss", "mask", "salt"] = "mask"
    """additive normal, set to zero, or salt and pepper"""
    level: float = 0.25
    """nu, share of the values that is hit; of gauss the standard deviation"""
    alpha: float = 1.0
    """weight of values that were hit"""
    beta: float = 1.0
    """weight of the others; 0 is full emphasis, 1 the plain loss"""
    cross_entropy: bool = True
    """for values in [0, 1]; False is the squared error"""
    code: int = 1000
    """size of the code between encoder and decoder"""
    width: int = 256
    """channels of the decoder's first map, halved from map to map"""
    views: OneView = OneView(
        size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )  # fmt: skip
    optim: Optim = Optim("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = Code(image, self.views.size, self.code)
        self.decoder = Decoder(self.code, image.channels, self.views.size, self.width)

    def forward(self, views, t):
        x = views["x"].float()
        noisy, hit = corrupt(x, self.noise, self.level)
        guess = self.decoder(self.encoder(noisy))
        loss, inside, outside = emphasised(guess, x, hit, self.alpha, self.beta, self.cross_entropy)
        return loss, {"hit": inside / x[0].numel(), "not_hit": outside / x[0].numel()}

    def show(self, views, t):
        noisy, _ = corrupt(views["x"].float(), self.noise, self.level)
        guess = self.decoder(self.encoder(noisy)).float()
        return {"input": views["x"], "noisy": noisy, "rebuilt": guess.sigmoid() if self.cross_entropy else guess}

    def kept(self):
        return self.encoder.encoder
