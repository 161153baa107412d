r"""EsViT: DINO on the whole view, and on regions: each learns what the teacher sees in the best fitting one elsewhere.

Li, Yang, Zhang, Gao, Xiao, Dai, Yuan, Gao, "Efficient Self-supervised Vision Transformers for Representation Learning",
ICLR 2022, arXiv:2106.09785.

    L_V = mean over pairs of views (u of the teacher, v != u of the student) of  -P_t(u) . log P_s(v)         (eq. 1)
    L_R = mean over the same pairs, regions i of v of  -P_t(u, j*) . log P_s(v, i),
          j* = argmax_j cos(z_s(v, i), z_t(u, j)) of the features before the head                            (eq. 2-3)
    L = (L_V + L_R) / 2,   centres and teacher follow as in DINO, with head and centre of their own for regions

Shapes: T = 2 global views, B images, N = T B, L regions, D features, K prototypes. Differs: the regions are the patches
of a plain ViT and the view is its class token, where the paper has the last map of a Swin transformer and its mean. What
is kept is the teacher.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.cluster import targets, teacher_logs
from nolabel.losses.distill import distill, distill_regions, nearest_regions
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead
from nolabel.views.image import MultiCrop


class EsViT(Method):
    prototypes: int = 65536
    """K, size of both softmaxes"""
    hidden: int = 2048
    """width of the heads' hidden layers"""
    bottleneck: int = 256
    """width of the normalised layer before the prototypes"""
    region_weight: float = 0.5
    """share of L_R in the loss; 0 is DINO"""
    student_temperature: float = 0.1
    """tau_s"""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """tau_t, first and last value of its linear warm-up"""
    warmup_epochs: float = 30
    """epochs over which tau_t warms up"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """of the teacher, a cosine from first to last"""
    center_momentum: float = 0.9
    """of both centres; they must follow faster than the teacher changes"""
    sinkhorn: bool = False
    """targets by Sinkhorn-Knopp in the place of the centres, over views and over regions"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    views: MultiCrop = MultiCrop(size=224, scale=(0.25, 1.0), local_size=96, local_scale=(0.05, 0.25), locals=8)
    optim: Optim = Optim(
        "adamw", lr=5e-4, weight_decay=0.04, final_weight_decay=0.4, warmup_epochs=10, final_lr=1e-6, clip_each=3.0
    )

    def build(self, data, tokens):
        heads = [DINOHead(tokens.dim, self.hidden, self.bottleneck, self.prototypes) for _ in range(2)]
        self.student = nn.ModuleDict({"encoder": tokens, "head": heads[0], "region_head": heads[1]})
        self.teacher = EMA(self.student)
        self.register_buffer("center", torch.zeros(self.prototypes))
        self.register_buffer("region_center", torch.zeros(self.prototypes))

    def forward(self, views, t):
        temperature = t.linear(*self.teacher_temperature, self.warmup_epochs)
        with torch.no_grad():
            seen_TBK, h_TBSD, seen_TBLK = self.look(self.teacher.net, views["global"])
            center_K, region_center_K = (None, None) if self.sinkhorn else (self.center, self.region_center)
            p_TBK = targets(seen_TBK, temperature, center_K)
            p_TBLK = targets(seen_TBLK, temperature, region_center_K)
            self.center.lerp_(mean_over_ranks(seen_TBK.mean((0, 1))), 1 - self.center_momentum)
            self.region_center.lerp_(mean_over_ranks(seen_TBLK.mean((0, 1, 2))), 1 - self.center_momentum)
        looks = [self.look(self.student, views[key]) for key in ("global", "local") if key in views]
        view_loss = distill(torch.cat([logits_VBK for logits_VBK, _, _ in looks]), p_TBK, self.student_temperature)
        regions = [(h_BSD[:, 1:], x_BLK) for _, h_VBSD, x_VBLK in looks for h_BSD, x_BLK in zip(h_VBSD, x_VBLK)]
        costs = [
            distill_regions(x_BLK, p_TBLK[u], nearest_regions(h_BLD, h_TBSD[u, :, 1:]), self.student_temperature)
            for u in range(len(p_TBLK))
            for v, (h_BLD, x_BLK) in enumerate(regions)
            if u != v
        ]
        region_loss = torch.stack(costs).mean()
        std = feature_std(looks[0][1][:, :, 0].flatten(0, 1))
        logs = {"view": view_loss.detach(), "region": region_loss.detach(), "std": std, **teacher_logs(p_TBK)}
        return view_loss.lerp(region_loss, self.region_weight), logs

    @staticmethod
    def look(net, x_VBCHW):
        """Logits of views (V, B, K), tokens of views and regions (V, B, 1 + L, D), logits of regions (V, B, L, K)."""
        h_VBSD = net["encoder"].encode(net["encoder"].embed(x_VBCHW.flatten(0, 1))).unflatten(0, x_VBCHW.shape[:2])
        return net["head"](h_VBSD[:, :, 0]), h_VBSD, net["region_head"](h_VBSD[:, :, 1:])

    def after_backward(self, t):
        if t.epoch < self.freeze_last:
            self.student["head"].hold_prototypes()
            self.student["region_head"].hold_prototypes()

    def after_step(self, t):
        self.teacher.update(self.student, t.cosine(*self.momentum))

    def kept(self):
        return self.teacher.net["encoder"]
