r"""Adversarial autoencoder: rebuild the image from a code that a critic cannot tell from normal noise.

Makhzani, Shlens, Jaitly, Goodfellow, Frey, "Adversarial Autoencoders", ICLR workshop 2016, arXiv:1511.05644.

    L_critic = -log D(z) - log(1 - D(f(x))),   z ~ N(0, 1)
    L_coder  = 1/2 |x - g(f(x))|^2 + lambda ( -log D(f(x)) )                                                (section 2)

Shapes: B images (C, S, S), K code. Differs: the coder's two steps, rebuilding and fooling, are one step on their sum; the
batch's sum of squares is divided by the pixels, to which lambda is relative.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.losses.generative import critic_loss, fooling_loss, right_side
from nolabel.networks.mlp import mlp
from nolabel.networks.painter import Code, Decoder
from nolabel.views.image import OneView


class AAE(Method):
    turns = ("critic", "coder")
    adversarial: float = 0.05
    """lambda"""
    code: int = 64
    """K"""
    hidden: int = 1000
    """width of the critic's two layers"""
    width: int = 256
    """channels of the decoder's first map, halved from map to map"""
    views: OneView = OneView(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5)
    optim: Optim = Optim("adam", lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = Code(image, self.views.size, self.code)
        self.decoder = Decoder(self.code, image.channels, self.views.size, self.width)
        self.critic = mlp(self.code, self.hidden, self.hidden, 1, norm=None)

    def groups(self, t):
        return {
            "critic": self.critic.parameters(),
            "coder": [*self.encoder.parameters(), *self.decoder.parameters()],
        }

    def forward(self, views, t):
        x = views["x"].float()
        code_BK = self.encoder(x)
        if t.turn == "critic":
            real_B = self.critic(torch.randn_like(code_BK, dtype=torch.float32))
            fake_B = self.critic(code_BK.detach())
            return critic_loss(real_B, fake_B), {"critic_accuracy": right_side(real_B, fake_B)}
        error = 0.5 * (x - self.decoder(code_BK).float()).square().mean()
        fooling = fooling_loss(self.critic(code_BK))
        spread = code_BK.detach().float().std(0, correction=0).mean()
        logs = {"pixel_error": 2 * error.detach(), "fooling": fooling.detach(), "code_deviation": spread}
        return error + self.adversarial * fooling, logs

    def show(self, views, t):
        code_BK = self.encoder(views["x"])
        dreamt = self.decoder(torch.randn_like(code_BK)).float()
        return {"input": views["x"], "rebuilt": self.decoder(code_BK).float(), "dreamt": dreamt}

    def kept(self):
        return self.encoder.encoder
