r"""DINO: a student matches the sharpened, centred output of its own running average across crops of one image.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021, arXiv:2104.14294.

    P_s = softmax(s / tau_s),   P_t = softmax((t - c) / tau_t)                                                (eq. 1)
    L   = mean over pairs of views (u of the teacher, v != u of the student) of  -P_t(u) . log P_s(v)         (eq. 3)
    c  <- m c + (1 - m) mean(t),   teacher <- lambda teacher + (1 - lambda) student                           (eq. 4)

Shapes: T = 2 global views, S = T + locals, B images, D features, K prototypes. The teacher sees global views only; the
centre in use is the one of the step before; DINOv2's Sinkhorn-Knopp can stand in its place. What is kept is the teacher.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.cluster import targets, teacher_logs
from nolabel.losses.distill import distill
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead
from nolabel.views.image import MultiCrop


class DINO(Method):
    prototypes: int = 65536
    """K, size of the softmax"""
    hidden: int = 2048
    """width of the head's hidden layers"""
    bottleneck: int = 256
    """width of the normalised layer before the prototypes"""
    student_temperature: float = 0.1
    """tau_s"""
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """tau_t, first and last value of its linear warm-up (0.04 to 0.07 for runs of 300 epochs and more)"""
    warmup_epochs: float = 30
    """epochs over which tau_t warms up"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """lambda, a cosine from first to last"""
    center_momentum: float = 0.9
    """m; the centre must follow faster than the teacher changes"""
    sinkhorn: bool = False
    """targets by Sinkhorn-Knopp in the place of the centre"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    norm_last: bool = True
    """prototypes of unit length (False trains their lengths, as the paper does for ViT-S)"""
    batchnorm: bool = False
    """BatchNorm in the head, for convolutional encoders"""
    views: MultiCrop = MultiCrop(size=224, scale=(0.4, 1.0), local_size=96, local_scale=(0.05, 0.4), locals=8)
    optim: Optim = Optim(
        "adamw", lr=5e-4, weight_decay=0.04, final_weight_decay=0.4, warmup_epochs=10, final_lr=1e-6, clip_each=3.0
    )

    def build(self, data, image):
        head = DINOHead(
            image.dim,
            self.hidden,
            self.bottleneck,
            self.prototypes,
            norm="bn" if self.batchnorm else None,
            norm_last=self.norm_last,
        )
        self.student = nn.Sequential(image, head)
        self.teacher = EMA(self.student)
        self.register_buffer("center", torch.zeros(self.prototypes))

    def forward(self, views, t):
        crops = [views[k] for k in ("global", "local") if k in views]
        T, B = crops[0].shape[:2]
        teacher_TBK = self.teacher(crops[0].flatten(0, 1)).float().unflatten(0, (T, B))
        temperature = t.linear(*self.teacher_temperature, self.warmup_epochs)
        p_TBK = targets(teacher_TBK, temperature, None if self.sinkhorn else self.center)
        encoder, head = self.student
        z_NP = torch.cat([head.embed(encoder(v.flatten(0, 1))) for v in crops])
        loss = distill(head.last(z_NP).unflatten(0, (-1, B)), p_TBK, self.student_temperature)
        with torch.no_grad():
            self.center.lerp_(mean_over_ranks(teacher_TBK.mean((0, 1))), 1 - self.center_momentum)
        logs = teacher_logs(p_TBK)
        return loss, {**logs, "divergence": loss.detach() - logs["teacher_entropy"], "std": feature_std(z_NP[: T * B])}

    def after_backward(self, t):
        if t.epoch < self.freeze_last:
            self.student[1].hold_prototypes()

    def after_step(self, t):
        self.teacher.update(self.student, t.cosine(*self.momentum))

    def kept(self):
        return self.teacher.net[0]
