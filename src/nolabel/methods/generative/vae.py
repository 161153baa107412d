r"""VAE and beta-VAE: rebuild the image from a noisy code whose distribution stays near the normal one.

Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114; Higgins et al., "beta-VAE", ICLR 2017.

    L = mean_b [ |x - g(z)|^2 / 2 s^2 + beta sum_k KL_k ],   z = mu + sigma eps                                (eq. 10)
    KL_k = 1/2 ( mu^2 + sigma^2 - log sigma^2 - 1 )                                                      (appendix B)

Shapes: B images (C, S, S), K code. Both terms are sums, over pixels and over the code, so beta is the paper's; the constant
of the Gaussian likelihood is left out of the loss. Differs: the deviation s of the pixels is fixed.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.generative import gaussian_kl
from nolabel.networks.painter import Code, Decoder
from nolabel.views.image import OneView


class VAE(Method):
    beta: float = 1.0
    """weight of the divergence; other values than 1 are beta-VAE"""
    deviation: float = 1.0
    """s, standard deviation of a pixel around what is painted, in units of the normalised views"""
    code: int = 64
    """K"""
    width: int = 256
    """channels of the decoder's first map, halved from map to map"""
    views: OneView = OneView(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5)
    optim: Optim = Optim("adam", lr=1e-4, weight_decay=0.0, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = Code(image, self.views.size, 2 * self.code)
        self.decoder = Decoder(self.code, image.channels, self.views.size, self.width)

    def forward(self, views, t):
        x = views["x"].float()
        mean_BK, log_variance_BK = self.encoder(x).float().chunk(2, 1)
        z_BK = mean_BK + (0.5 * log_variance_BK).exp() * torch.randn_like(mean_BK)
        error = (x - self.decoder(z_BK).float()).square()
        kl_K = gaussian_kl(mean_BK, log_variance_BK)
        loss = error.flatten(1).sum(1).mean() / (2 * self.deviation**2) + self.beta * kl_K.sum()
        active = (kl_K.detach() > 0.01).float().sum()
        return loss, {"pixel_error": error.detach().mean(), "kl": kl_K.detach().sum(), "active": active}

    def show(self, views, t):
        mean_BK, _ = self.encoder(views["x"]).chunk(2, 1)
        sampled = self.decoder(torch.randn_like(mean_BK)).float()
        return {"input": views["x"], "rebuilt": self.decoder(mean_BK).float(), "dreamt": sampled}

    def kept(self):
        return self.encoder.encoder
