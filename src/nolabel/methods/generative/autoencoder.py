r"""Autoencoder: rebuild the image from a short code.

Hinton, Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006.

    L = mean_b 1/2 | x_b - g(f(x_b)) |^2

Shapes: B images (C, S, S), K code. The code is linear in all places of the encoder's last map; there is no way around it.
Differs: convolutions and one training, as in the baselines of Deep InfoMax (Hjelm et al., ICLR 2019), instead of stacked
Boltzmann machines.
"""

from nolabel.core import Method, Optim
from nolabel.networks.painter import Code, Decoder
from nolabel.views.image import OneView


class Autoencoder(Method):
    code: int = 64
    """K"""
    width: int = 256
    """channels of the decoder's first map, halved from map to map"""
    views: OneView = OneView(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5)
    optim: Optim = Optim("adam", lr=1e-4, weight_decay=0.0, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = Code(image, self.views.size, self.code)
        self.decoder = Decoder(self.code, image.channels, self.views.size, self.width)

    def forward(self, views, t):
        x = views["x"].float()
        error = (x - self.decoder(self.encoder(x)).float()).square()
        return 0.5 * error.flatten(1).sum(1).mean(), {"pixel_error": error.detach().mean()}

    def show(self, views, t):
        return {"input": views["x"], "rebuilt": self.decoder(self.encoder(views["x"])).float()}

    def kept(self):
        return self.encoder.encoder
