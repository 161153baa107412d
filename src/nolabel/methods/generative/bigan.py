r"""BiGAN: a critic tells pairs (image, its code) from pairs (painting, its noise); to fool it they must be inverses.

Donahue, Krahenbuhl, Darrell, "Adversarial Feature Learning", ICLR 2017, arXiv:1605.09782.

    L_critic = -E_x log D(x, E(x)) - E_z log(1 - D(G(z), z)),   z ~ U(-1, 1)                                    (eq. 3)
    L_pair   = -E_x log(1 - D(x, E(x))) - E_z log D(G(z), z):   the same with swapped labels               (section 3.4)

Shapes: B images (C, S, S), K code. What is kept is the net below E's code. Differs: weights start as usual for
their layers, not from N(0, 0.02); the critic's layers are told the code, as the authors', and the painter's are not.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim
from nolabel.losses.generative import critic_loss, right_side
from nolabel.networks.painter import Code, Critic, Decoder
from nolabel.views.image import OneView


class BiGAN(Method):
    turns = ("critic", "pair")
    code: int = 64
    """K"""
    hidden: int = 1024
    """width of the critic's linear layers"""
    width: int = 256
    """channels of the painter's first map, halved from map to map; the critic starts with a quarter of it"""
    views: OneView = OneView(
        size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )  # pixels from -1 to 1
    optim: Optim = Optim("adam", lr=2e-4, betas=(0.5, 0.999), weight_decay=2.5e-5, warmup_epochs=0, scaled=False)

    def build(self, data, image):
        self.encoder = Code(image, self.views.size, self.code)
        self.painter = Decoder(self.code, image.channels, self.views.size, self.width)
        self.critic = Critic(image.channels, self.views.size, max(16, self.width // 4), self.code, self.hidden)

    def groups(self, t):
        return {
            "critic": self.critic.parameters(),
            "pair": [*self.encoder.parameters(), *self.painter.parameters()],
        }

    def forward(self, views, t):
        x = views["x"].float()
        z_BK = self.noise(len(x), x.device)
        code_BK, painted = self.encoder(x).float(), self.paint(z_BK)
        if t.turn == "critic":
            code_BK, painted = code_BK.detach(), painted.detach()
        real_B, fake_B = self.critic(x, code_BK), self.critic(painted, z_BK)
        if t.turn == "critic":
            return critic_loss(real_B, fake_B), {"critic_accuracy": right_side(real_B, fake_B)}
        logs = {"code_deviation": code_BK.detach().std(0, correction=0).mean()}
        if not self.training:  # a pass that training does not need: 1 where E is the inverse of G
            again_BK = self.encoder(painted).float()
            each_K = F.cosine_similarity(again_BK - again_BK.mean(0), z_BK - z_BK.mean(0), dim=0)
            logs["code_correlation"] = each_K.mean()
        return critic_loss(fake_B, real_B), logs

    def noise(self, count, device):
        """z (count, K)."""
        return 2 * torch.rand(count, self.code, device=device) - 1

    def paint(self, z_BK):
        """G(z), in the range of the views' pixels."""
        return self.painter(z_BK).float().tanh()

    def show(self, views, t):
        x = views["x"]
        dreamt = self.paint(self.noise(len(x), x.device))
        return {"input": x, "painted from its code": self.paint(self.encoder(x).float()), "dreamt": dreamt}

    def kept(self):
        return self.encoder.encoder
