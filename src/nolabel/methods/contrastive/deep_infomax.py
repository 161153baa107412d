r"""Deep InfoMax: a summary of the image tells which places of which image it belongs to; a critic spreads the summaries.

Hjelm, Fedorov, Lavoie-Marchildon, Grewal, Bachman, Trischler, Bengio, "Learning Deep Representations by Mutual Information
Estimation and Maximization", ICLR 2019, arXiv:1808.06670.

    L = - alpha I(map; Y) - beta / M^2 sum_places I(place; Y) - gamma D(prior || Y)                           (eq. 8)
    I by scores u = < g(Y_i), l(place_j) >:  JSD (eq. 4), Donsker-Varadhan (eq. 3) or InfoNCE (eq. 5)
    critic: max  E log D(p) + E log(1 - D(Y)), p uniform;  encoder: max  E log D(Y)                            (eq. 7)

Shapes: B images, D features, Y summary of `out` values, C channels of a map, M^2 places. Places are those of a map of the
encoder, fine enough that each sees a part of the image. Differs: any encoder instead of the paper's three layers, whose
features D are kept (the paper's "conv", below fc and Y); the whole map is scored by a product too, as in the authors'
code, and averaged to 4 x 4 places first.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, UserError
from nolabel.core.dist import rank, world
from nolabel.losses.generative import critic_loss, fooling_loss, right_side
from nolabel.losses.information import mutual_information, place_scores
from nolabel.networks.mlp import mlp
from nolabel.networks.scorer import Scorer
from nolabel.views.image import OneView


class DeepInfoMax(Method):
    bound: str = "jsd"
    """estimate of the information: jsd, dv or nce"""
    global_weight: float = 0.0
    """alpha; DIM(G) is alpha 1, beta 0, gamma 1"""
    local_weight: float = 1.0
    """beta"""
    prior_weight: float = 0.1
    """gamma; 0 for no critic"""
    level: int = -2
    """which of the encoder's maps has the places, the last is -1"""
    hidden: int = 1024
    """width of the layer before the summary"""
    out: int = 64
    """size of the summary Y"""
    units: int = 2048
    """width of the embeddings that are multiplied"""
    views: OneView = OneView(size=64, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    optim: Optim = Optim("adam", lr=1e-4, weight_decay=0.0, scaled=False, warmup_epochs=0)

    @property
    def turns(self):
        """The critic first, where there is one."""
        return ("critic", "encoder") if self.prior_weight else ("all",)

    def build(self, data, image):
        if not (self.global_weight or self.local_weight):
            raise UserError("global_weight and local_weight are both 0: there is nothing to learn")
        self.encoder = image
        self.summary = mlp(image.dim, self.hidden, self.out)
        if self.local_weight:
            self.place = Scorer(image.map_dims[self.level], self.units)
            self.local_summary = Scorer(self.out, self.units)
        if self.global_weight:
            self.map = Scorer(16 * image.map_dims[-1], self.units)
            self.global_summary = Scorer(self.out, self.units)
        if self.prior_weight:
            self.critic = mlp(self.out, 1000, 200, 1, norm=None)

    def groups(self, t):
        if not self.prior_weight:
            return {"all": self.parameters()}
        critic = {id(p) for p in self.critic.parameters()}
        return {"critic": self.critic.parameters(), "encoder": [p for p in self.parameters() if id(p) not in critic]}

    def forward(self, views, t):
        if t.turn == "critic":
            return self.judge(views["x"])
        h_BD, maps = self.encoder.maps(views["x"])
        y_BY = self.summary(h_BD)
        loss, logs = 0.0, {}
        if self.local_weight:
            place_BLU = self.place(maps[self.level].flatten(2).mT)
            local, gap = mutual_information(place_scores(self.local_summary(y_BY), place_BLU), self.bound)
            loss, logs = loss + self.local_weight * local, {"local_information": -local.detach(), "local_gap": gap}
        if self.global_weight:
            map_B1U = self.map(F.adaptive_avg_pool2d(maps[-1], 4).flatten(1))[:, None]
            whole, gap = mutual_information(place_scores(self.global_summary(y_BY), map_B1U), self.bound)
            loss = loss + self.global_weight * whole
            logs |= {"global_information": -whole.detach(), "global_gap": gap}
        if self.prior_weight:
            spread = fooling_loss(self.critic(y_BY.sigmoid()))
            loss, logs = loss + self.prior_weight * spread, {**logs, "prior": spread.detach()}
        return loss, logs

    def judge(self, x):
        """The critic's loss: to tell summaries from uniform draws."""
        with torch.no_grad():
            y_BY = self.summary(self.encoder(x)).sigmoid()
        drawn_BY = torch.rand(world() * len(y_BY), self.out, device=x.device).chunk(world())[rank()]
        real_B1, fake_B1 = self.critic(drawn_BY), self.critic(y_BY)
        return critic_loss(real_B1, fake_B1), {"accuracy": right_side(real_B1, fake_B1)}
