r"""MSN: a view with most patches dropped is to fall on the same prototypes as another, whole view; no pixels.

Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat, Ballas, "Masked Siamese Networks for Label-Efficient
Learning", ECCV 2022, arXiv:2204.07141.

    p = softmax(cos(z, q) / tau),   p+ = Sinkhorn( softmax(cos(z+, q) / (tau T)) )                          (section 3)
    L = 1/(A B) sum over anchors of H(p+, p)  +  lambda (log K - H(mean p))                                       (eq. 1)

Shapes: A anchors (one masked view and some small ones), B images, L patches, D features, P embedding, K prototypes q.
mean p is that of all anchors and ranks: its entropy keeps all prototypes in use. No gradient reaches q or the encoder
through the target. What is kept is the target's encoder.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.cluster import sinkhorn
from nolabel.losses.distill import cross_entropy_soft, mean_entropy
from nolabel.networks.ema import EMA
from nolabel.networks.mlp import mlp
from nolabel.views.image import MultiCrop
from nolabel.views.masks import random_mask, take


class MSN(Method):
    hide: float = 0.15
    """share of the masked view's patches that is dropped; more for larger nets, up to 0.7"""
    undecayed = ("directions",)
    prototypes: int = 1024
    """K"""
    hidden: int = 2048
    """width of the head's hidden layers"""
    out: int = 256
    """P"""
    temperature: float = 0.1
    """tau"""
    sharpening: float = 0.25
    """T"""
    mean_entropy: float = 1.0
    """lambda; 0 collapses without `sinkhorn`"""
    sinkhorn: bool = True
    """targets use all prototypes alike"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """of the target, linear from first to last over 1.25 times the run"""
    views: MultiCrop = MultiCrop(
        size=224, scale=(0.3, 1.0), local_size=96, local_scale=(0.05, 0.3), locals=10,
        jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.5, 0.5, 0.5), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip
    optim: Optim = Optim(
        "adamw", lr=2.5e-4, weight_decay=0.04, final_weight_decay=0.4, warmup_epochs=15, final_lr=1e-6, clip=3.0
    )

    def build(self, data, tokens):
        head = mlp(tokens.dim, self.hidden, self.hidden, self.out, act=nn.GELU)
        self.anchor = nn.ModuleDict({"encoder": tokens, "head": head})
        self.target = EMA(self.anchor)
        bound = (1 / self.out) ** 0.5
        self.directions = nn.Parameter(torch.empty(self.prototypes, self.out).uniform_(-bound, bound))

    def forward(self, views, t):
        encoder, (whole_BCHW, x_BCHW) = self.anchor["encoder"], views["global"]
        tokens_BLD = encoder.embed(x_BCHW)
        keep_BK, _ = random_mask(*tokens_BLD.shape[:2], self.hide, device=x_BCHW.device)
        h_BD = [encoder.encode(take(tokens_BLD, keep_BK))[:, 0]]
        if "local" in views:
            h_BD.append(encoder.encode(encoder.embed(views["local"].flatten(0, 1)))[:, 0])
        with torch.no_grad():
            net = self.target.net
            seen_BD = net["encoder"].encode(net["encoder"].embed(whole_BCHW))[:, 0]
            logits_BK = self.compare(net["head"](seen_BD)) / (self.temperature * self.sharpening)
            p_BK = sinkhorn(logits_BK.log_softmax(-1), 1.0) if self.sinkhorn else logits_BK.softmax(-1)
        logits_ABK = self.compare(self.anchor["head"](torch.cat(h_BD))).unflatten(0, (-1, len(x_BCHW)))
        logits_ABK = logits_ABK / self.temperature
        agreement = cross_entropy_soft(logits_ABK, p_BK.expand_as(logits_ABK))
        unused = mean_entropy(logits_ABK.softmax(-1).flatten(0, 1))
        entropy = -torch.special.xlogy(p_BK, p_BK).sum(-1).mean()
        logs = {"agreement": agreement.detach(), "mean_entropy": unused.detach(), "target_entropy": entropy}
        return agreement + self.mean_entropy * unused, logs

    def compare(self, z_BP):
        """Cosines with the prototypes, in fp32."""
        with torch.autocast(z_BP.device.type, enabled=False):
            return F.normalize(z_BP.float(), dim=-1) @ F.normalize(self.directions, dim=-1).T

    def after_step(self, t):
        self.target.update(self.anchor, t.linear(*self.momentum, 1.25 * t.epochs))

    def kept(self):
        return self.target.net["encoder"]
