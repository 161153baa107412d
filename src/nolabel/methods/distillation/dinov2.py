r"""DINOv2: iBOT made stable: Sinkhorn targets, spread features, untied heads; and DINOv3's anchor for its patches.

Oquab, Darcet, Moutakanni, Vo, Szafraniec, Khalidov, Fernandez, Haziza, Massa, El-Nouby, Assran, Ballas, Galuba, Howes,
Huang, Li, Misra, Rabbat, Sharma, Synnaeve, Xu, Jegou, Mairal, Labatut, Joulin, Bojanowski, "DINOv2: Learning Robust
Visual Features without Supervision", TMLR 2024, arXiv:2304.07193. Gram anchoring: Simeoni et al., 2025, arXiv:2508.10104.

    L = L_DINO(class tokens) + L_iBOT(hidden patches) + w KoLeo(class tokens before the head) + g L_Gram    (section 4)
    targets: Sinkhorn-Knopp over the class tokens of the batch, and over all its hidden patches

Shapes: T = 2 global views, B images, N = T B, R of them masked, L patches, M at most hidden, D features, K prototypes.
Rows of the ablation (table 1) that are fields: `prototypes` and `bottleneck`, `koleo`, `momentum`, `optim.warmup_epochs`,
`sinkhorn`, `untied`. Rows that belong to the encoder are in its name: LayerScale and patches of 14 px in timm's
vit_*_patch14_dinov2, SwiGLU in the giant one of these, all of them and stochastic depth in tiny_hybrid_drop, _swiglu and
_ninth. Differs: stochastic depth drops samples one by one; the patch embedding has no rate of its own, nor has depth; the
anchor of L_Gram sees the crops without their colours, but at the same size. What is kept is the teacher.
"""

import math
from dataclasses import replace

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.cluster import sinkhorn, teacher_logs
from nolabel.losses.distill import distill, distill_masked, gram, koleo
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead
from nolabel.networks.mask_token import MaskToken
from nolabel.views.image import MultiCrop
from nolabel.views.masks import hidden_first, stratified_block_mask, take


class DINOv2(Method):
    prototypes: int = 131072
    """K, of each head"""
    hidden: int = 2048
    """width of the heads' hidden layers"""
    bottleneck: int = 384
    """width of the normalised layer before the prototypes"""
    untied: bool = True
    """a head of their own for patches"""
    sinkhorn: bool = True
    """targets by Sinkhorn-Knopp; False subtracts centres as iBOT does"""
    koleo: float = 0.1
    """w, weight of the spread of each global view's class tokens"""
    patch_weight: float = 1.0
    """of L_iBOT"""
    masked: float = 0.5
    """share of the global views that is masked"""
    hide: tuple[float, float] = (0.1, 0.5)
    """range of the hidden share of their patches, stratified over the batch"""
    student_temperature: float = 0.1
    """tau_s"""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """tau_t, first and last value of its linear warm-up"""
    warmup_epochs: float = 30
    """epochs over which tau_t warms up"""
    momentum: tuple[float, float] = (0.994, 1.0)
    """of the teacher, a cosine from first to last"""
    center_momentum: float = 0.9
    """of the centres, without `sinkhorn`"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    gram: float = 0.0
    """g, weight of DINOv3's Gram anchoring; 2 in that paper"""
    gram_from: float = 0.8
    """share of the run after which it begins, anchored to the teacher of that moment"""
    gram_refresh: float = 0.05
    """share of the run after which the anchor becomes the teacher of that moment again, at most three times"""
    views: MultiCrop = MultiCrop(size=224, scale=(0.32, 1.0), local_size=96, local_scale=(0.05, 0.32), locals=8)
    optim: Optim = Optim(
        "adamw", lr=3.5e-4, weight_decay=0.04, final_weight_decay=0.2, scaled=False, warmup_epochs=80, final_lr=1e-6,
        clip=3.0,
    )  # fmt: skip

    def build(self, data, tokens):
        sizes = (tokens.dim, self.hidden, self.bottleneck, self.prototypes)
        head = DINOHead(*sizes, norm_last=False)
        patch_head = DINOHead(*sizes, norm_last=False) if self.untied else head
        self.student = nn.ModuleDict({"encoder": tokens, "head": head, "patch_head": patch_head})
        self.teacher = EMA(self.student)
        self.mask = MaskToken(tokens.dim)
        self.anchor = EMA(tokens) if self.gram else None
        self.views = replace(self.views, clean=self.gram > 0)
        self.register_buffer("center", torch.zeros(2, self.prototypes))

    def forward(self, views, t):
        x_TBCHW, encoder = views["global"], self.student["encoder"]
        T, B = x_TBCHW.shape[:2]
        x_NCHW = x_TBCHW.flatten(0, 1)
        grid = x_NCHW.shape[2] // encoder.patch, x_NCHW.shape[3] // encoder.patch
        mask_BThw = stratified_block_mask(B * T, grid, self.masked, *self.hide, device=x_NCHW.device)
        mask_NL = mask_BThw.unflatten(0, (B, T)).transpose(0, 1).flatten(0, 1).flatten(1)
        row_R = mask_NL.any(1).byte().argsort(descending=True, stable=True)[: max(1, int(self.masked * B * T))]
        hide_RM, hidden_RM = hidden_first(mask_NL[row_R], int(self.hide[1] * mask_NL.shape[1]))
        with torch.no_grad():
            net = self.teacher.net
            h_NLD = net["encoder"].encode(net["encoder"].embed(x_NCHW))
            p_TBK = self.targets(net["head"](h_NLD[:, 0]), 0, t).unflatten(0, (T, B))
            std = feature_std(h_NLD[:, 0])  # of whole views: masks alone tell the student's apart
            patch_RMK = net["patch_head"](take(h_NLD[row_R, 1:], hide_RM))
            p_RMK = self.targets(patch_RMK.flatten(0, 1), 1, t, hidden_RM.flatten().float()).view_as(patch_RMK)
        h_NLD = encoder.encode(self.mask(encoder, x_NCHW, mask_NL))
        local = [encoder.encode(encoder.embed(x.flatten(0, 1)))[:, 0] for key, x in views.items() if key == "local"]
        logits_VBK = self.student["head"](torch.cat((h_NLD[:, 0], *local))).float().unflatten(0, (-1, B))
        view_loss = distill(logits_VBK, p_TBK, self.student_temperature)
        patch_RMK = self.student["patch_head"](take(h_NLD[row_R, 1:], hide_RM))
        patch_loss = distill_masked(patch_RMK, p_RMK, hidden_RM, self.student_temperature) * (len(row_R) / (T * B))
        spread = sum(koleo(h_BD) for h_BD in h_NLD[:, 0].chunk(T))
        loss = view_loss + self.patch_weight * patch_loss + self.koleo * spread
        logs = {"view": view_loss.detach(), "patch": patch_loss.detach(), "koleo": spread.detach()}
        logs |= {"std": std, **teacher_logs(p_TBK)}
        if self.gram and t.progress >= self.gram_from:
            with torch.no_grad():
                seen_NLD = self.anchor.net.encode(self.anchor.net.embed(views["clean"].flatten(0, 1)))[:, 1:]
            logs["gram"] = (anchored := gram(h_NLD[:, 1:], seen_NLD)).detach()
            loss = loss + self.gram * anchored
        return loss, logs

    def targets(self, logits_NK, which, t, weight_N=None):
        """Probabilities from the teacher's logits of class tokens (0) or patches (1); rows of weight 0 only fill up."""
        temperature = t.linear(*self.teacher_temperature, self.warmup_epochs)
        if self.sinkhorn:
            return sinkhorn(logits_NK, temperature, weight_B=weight_N)
        logits_NK, center_K = logits_NK.float(), self.center[which].clone()
        weight_N = torch.ones_like(logits_NK[:, 0]) if weight_N is None else weight_N
        total_K = (weight_N[:, None] * logits_NK).sum(0)  # a product of matrices would be one of bf16 under autocast
        mean_K = mean_over_ranks(total_K) / mean_over_ranks(weight_N.sum()).clamp(min=1e-6)
        self.center[which].lerp_(mean_K, 1 - self.center_momentum)
        return ((logits_NK - center_K) / temperature).softmax(-1)

    def after_backward(self, t):
        if t.epoch < self.freeze_last:
            self.student["head"].hold_prototypes()
            self.student["patch_head"].hold_prototypes()

    def after_step(self, t):
        self.teacher.update(self.student, t.cosine(*self.momentum))
        if self.gram:
            done = [(step / max(1, t.steps - 1) - self.gram_from) / self.gram_refresh for step in (t.step, t.step + 1)]
            before, after = map(math.floor, done)
            if before < 0 or before < after <= 3:
                self.anchor.update(self.teacher.net["encoder"], 0.0)

    def kept(self):
        return self.teacher.net["encoder"]
