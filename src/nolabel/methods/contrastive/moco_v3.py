r"""MoCo v3: no queue, a large batch and a predictor; a patch projection that stays random keeps ViTs stable.

Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021, arXiv:2104.02057.

    ctr(q, k) = -log  exp(q . k+ / tau)  /  sum_{k in batch} exp(q . k / tau)                                 (eq. 1)
    L = 2 tau ctr(q_1, k_2) + 2 tau ctr(q_2, k_1)                                                         (algorithm 1)

Shapes: B images, D features, P projection. The keys of all ranks are compared, without gradient. For a ResNet-50 the
paper takes `layers=2, last_norm=False, temperature=1` and LARS. Differs: batch norm sees both views at once, where the
authors encode one after the other.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce_batch
from nolabel.networks.ema import EMA
from nolabel.networks.mlp import mlp
from nolabel.views.image import TwoViews


class MoCoV3(Method):
    temperature: float = 0.2
    """tau of eq. 1"""
    momentum: tuple[float, float] = (0.99, 1.0)
    """of the key encoder, a cosine from first to last"""
    hidden: int = 4096
    """width of the hidden layers of projector and predictor"""
    out: int = 256
    """P"""
    layers: int = 3
    """of the projector"""
    last_norm: bool = True
    """the predictor ends with BatchNorm, without gain and shift like the projector's"""
    freeze_patches: bool = True
    """the patch projection of a ViT keeps its random weights; nothing else has one"""
    views: TwoViews = TwoViews(jitter=(0.4, 0.4, 0.2, 0.1), blur=(1.0, 0.1), solarize=(0.0, 0.2))
    optim: Optim = Optim("adamw", lr=1.5e-4, weight_decay=0.1, warmup_epochs=40)

    def build(self, data, image):
        patches = getattr(getattr(image, "net", None), "patch_embed", None)
        if self.freeze_patches and patches is not None:
            patches.frozen = True
        wide = [self.hidden] * (self.layers - 1)
        self.base = nn.Sequential(image, mlp(image.dim, *wide, self.out, last_norm="bn_noaffine"))
        self.key = EMA(self.base)
        last = "bn_noaffine" if self.last_norm else None
        self.predictor = mlp(self.out, self.hidden, self.out, last_norm=last, last_bias=False)

    def forward(self, views, t):
        both = torch.cat((views["a"], views["b"]))
        query_a_BP, query_b_BP = self.predictor(self.base(both)).chunk(2)
        key_a_BP, key_b_BP = self.key(both).chunk(2)
        one, right = info_nce_batch(query_a_BP, key_b_BP, self.temperature)
        two, wrong = info_nce_batch(query_b_BP, key_a_BP, self.temperature)
        return 2 * self.temperature * (one + two), {"instance_accuracy": (right + wrong) / 2}

    def after_step(self, t):
        self.key.update(self.base, t.cosine(*self.momentum))

    def kept(self):
        return self.base[0]
