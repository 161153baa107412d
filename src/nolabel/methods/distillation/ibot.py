r"""iBOT: DINO on the class token, and on hidden patches the teacher's view of them as an online tokenizer.

Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, "iBOT: Image BERT Pre-Training with Online Tokenizer", ICLR 2022,
arXiv:2111.07832.

    L_cls = mean over pairs of views (u of the teacher, v != u of the student) of  -P_t(u) . log P_s(v)       (eq. 1)
    L_MIM = mean over u, images of  1/|mask|  sum over hidden patches n of  -P_t(u, n) . log P_s(masked u, n)  (eq. 2)
    L = L_cls + L_MIM,   centres and teacher follow as in DINO, with a centre of their own for patches

Shapes: T = 2 global views, B images, L patches, M at most hidden, D features, K prototypes. Half of the images hide
nothing and count as zero in L_MIM. The teacher sees whole global views only, the student masked global and whole local
ones. What is kept is the teacher. Stochastic depth (0.1) is an option of the encoder, and would act on the student only.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.cluster import targets, teacher_logs
from nolabel.losses.distill import distill, distill_masked
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead
from nolabel.networks.mask_token import MaskToken
from nolabel.views.image import MultiCrop
from nolabel.views.masks import choice_block_mask, hidden_first, take


class IBOT(Method):
    prototypes: int = 8192
    """K, size of the softmax"""
    hidden: int = 2048
    """width of the head's hidden layers"""
    bottleneck: int = 256
    """width of the normalised layer before the prototypes"""
    shared_head: bool = True
    """one head for class token and patches"""
    norm_last: bool = False
    """prototypes of unit length"""
    patch_weight: float = 1.0
    """of L_MIM; 0 is DINO on masked views"""
    ratios: tuple[float, ...] = (0.0, 0.3)
    """hidden share of the patches, one of these for each image"""
    spreads: tuple[float, ...] = (0.0, 0.2)
    """half the range around each of `ratios`"""
    student_temperature: float = 0.1
    """tau_s"""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """tau_t of class tokens and patches, first and last value of its linear warm-up"""
    warmup_epochs: float = 30
    """epochs over which tau_t warms up"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """of the teacher, a cosine from first to last"""
    center_momentum: float = 0.9
    """of both centres; they must follow faster than the teacher changes"""
    sinkhorn: bool = False
    """targets by Sinkhorn-Knopp in the place of the centres, over class tokens and over hidden patches"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    views: MultiCrop = MultiCrop(size=224, scale=(0.25, 1.0), local_size=96, local_scale=(0.05, 0.25), locals=10)
    optim: Optim = Optim(
        "adamw", lr=5e-4, weight_decay=0.04, final_weight_decay=0.4, warmup_epochs=10, final_lr=1e-6, clip_each=3.0
    )

    def build(self, data, tokens):
        sizes = (tokens.dim, self.hidden, self.bottleneck, self.prototypes)
        head = DINOHead(*sizes, norm_last=self.norm_last)
        patch_head = head if self.shared_head else DINOHead(*sizes, norm_last=self.norm_last)
        self.student = nn.ModuleDict({"encoder": tokens, "head": head, "patch_head": patch_head})
        self.teacher = EMA(self.student)
        self.mask = MaskToken(tokens.dim)
        self.register_buffer("center", torch.zeros(self.prototypes))
        self.register_buffer("patch_center", torch.zeros(self.prototypes))

    def forward(self, views, t):
        x_TBCHW, encoder = views["global"], self.student["encoder"]
        T, B = x_TBCHW.shape[:2]
        x_NCHW, temperature = x_TBCHW.flatten(0, 1), t.linear(*self.teacher_temperature, self.warmup_epochs)
        grid = x_NCHW.shape[2] // encoder.patch, x_NCHW.shape[3] // encoder.patch
        mask_BThw = choice_block_mask(B * T, grid, self.ratios, self.spreads, device=x_NCHW.device)
        mask_NL = mask_BThw.unflatten(0, (B, T)).transpose(0, 1).flatten(0, 1).flatten(1)
        most = max(1, int(mask_NL.shape[1] * max(r + s for r, s in zip(self.ratios, self.spreads))))
        hide_NM, hidden_NM = hidden_first(mask_NL, most)
        with torch.no_grad():
            net = self.teacher.net
            h_NLD = net["encoder"].encode(net["encoder"].embed(x_NCHW))
            center_K, patch_center_K = (None, None) if self.sinkhorn else (self.center, self.patch_center)
            seen_NK = net["head"](h_NLD[:, 0]).float()
            p_TBK = targets(seen_NK, temperature, center_K).unflatten(0, (T, B))
            std = feature_std(h_NLD[:, 0])  # of whole views: masks alone tell the student's apart
            if self.sinkhorn:
                hide_NMK = net["patch_head"](take(h_NLD[:, 1:], hide_NM)).float()
            else:  # the centre is that of all patches
                seen_NLK = net["patch_head"](h_NLD[:, 1:]).float()
                hide_NMK = take(seen_NLK, hide_NM)
            p_NMK = targets(hide_NMK, temperature, patch_center_K, hidden_NM)
        h_NLD = encoder.encode(self.mask(encoder, x_NCHW, mask_NL))
        local = [encoder.encode(encoder.embed(x.flatten(0, 1)))[:, 0] for key, x in views.items() if key == "local"]
        logits_VBK = self.student["head"](torch.cat((h_NLD[:, 0], *local))).float().unflatten(0, (-1, B))
        view_loss = distill(logits_VBK, p_TBK, self.student_temperature)
        patch_NMK = self.student["patch_head"](take(h_NLD[:, 1:], hide_NM))
        patch_loss = distill_masked(patch_NMK, p_NMK, hidden_NM, self.student_temperature)
        if not self.sinkhorn:
            with torch.no_grad():
                self.center.lerp_(mean_over_ranks(seen_NK.mean(0)), 1 - self.center_momentum)
                self.patch_center.lerp_(mean_over_ranks(seen_NLK.mean((0, 1))), 1 - self.center_momentum)
        logs = {"view": view_loss.detach(), "patch": patch_loss.detach(), "std": std}
        return view_loss + self.patch_weight * patch_loss, {**logs, **teacher_logs(p_TBK)}

    def after_backward(self, t):
        if t.epoch < self.freeze_last:
            self.student["head"].hold_prototypes()
            self.student["patch_head"].hold_prototypes()

    def after_step(self, t):
        self.teacher.update(self.student, t.cosine(*self.momentum))

    def kept(self):
        return self.teacher.net["encoder"]
