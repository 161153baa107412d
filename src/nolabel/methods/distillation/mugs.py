r"""Mugs: three grains at once: the image itself, the image among its neighbours, and the cluster it falls in.

Zhou, Zhou, Si, Yu, Ng, Yan, "Mugs: A Multi-Granular Self-Supervised Learning Framework", 2022, arXiv:2203.14415.

    L = w_1 NCE( p_1(z_1(x)), z_1'(x') ) + w_2 NCE( p_2(z_2(g(x))), z_2'(g'(x')) ) + w_3 DINO(x, x')       (section 3)
    g(x): first token of a transformer on  (mean token, the k mean patches of earlier steps that are nearest to it)
    NCE: softmax over the teacher's output of another view against a queue of earlier outputs

Shapes: T = 2 global views, V in all, B images, L patches, D features, P projection, K prototypes, Q rows of a queue. Each
term is the mean of its global and its local views. The student alone has the predictors p. Each net has a memory of its
own mean patches, of the first global view. Differs: the transformer has a last norm of its own, and its mean token is that
of normalised tokens; colours as in DINO instead of RandAugment; the patch embedding has no rate of its own. What is kept
is the teacher.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.cluster import targets, teacher_logs
from nolabel.losses.contrastive import info_nce
from nolabel.losses.distill import distill
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.heads import DINOHead, quiet
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.networks.transformer import Transformer
from nolabel.views.image import MultiCrop


class Mugs(Method):
    weights: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    """w of image, local group and group"""
    queue: int = 65536
    """Q"""
    neighbours: int = 8
    """k"""
    temperature: float = 0.2
    """of NCE"""
    hidden: int = 2048
    """width of the heads' hidden layers; predictors have twice as much"""
    out: int = 256
    """P"""
    prototypes: int = 65536
    """K"""
    bottleneck: int = 256
    """width of the normalised layer before the prototypes"""
    student_temperature: float = 0.1
    """of the clusters"""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """first and last value of its linear warm-up"""
    warmup_epochs: float = 30
    """epochs over which the teacher's temperature warms up"""
    momentum: tuple[float, float] = (0.996, 1.0)
    """of the teacher, a cosine from first to last"""
    center_momentum: float = 0.9
    """of the centre; it must follow faster than the teacher changes"""
    sinkhorn: bool = False
    """clusters of the teacher by Sinkhorn-Knopp in the place of the centre"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    views: MultiCrop = MultiCrop(size=224, scale=(0.25, 1.0), local_size=96, local_scale=(0.05, 0.25), locals=10)
    optim: Optim = Optim(
        "adamw", lr=8e-4, weight_decay=0.04, final_weight_decay=0.1, warmup_epochs=10, final_lr=1e-6, clip_each=3.0
    )

    def build(self, data, tokens):
        dims = (tokens.dim, self.hidden, self.hidden, self.out)
        head = partial(mlp, norm=None, act=nn.GELU, bias=False, last_bias=False)
        self.student = nn.ModuleDict(
            {
                "encoder": tokens,
                "image": head(*dims).apply(quiet),
                "relate": Transformer(tokens.dim, 1, max(1, tokens.dim // 64)),
                "local": head(*dims).apply(quiet),
                "group": DINOHead(tokens.dim, self.hidden, self.bottleneck, self.prototypes, norm_last=False),
            }
        )
        self.teacher = EMA(self.student)
        self.predictors = nn.ModuleList(head(self.out, 2 * self.hidden, self.out) for _ in "ab")
        self.queues = nn.ModuleList(Queue(self.queue, self.out) for _ in "ab")
        self.memories = nn.ModuleDict({name: Queue(self.queue, tokens.dim) for name in ("student", "teacher")})
        self.register_buffer("center", torch.zeros(self.prototypes))

    def forward(self, views, t):
        with torch.no_grad():
            image_TBP, local_TBP, seen_TBK, patch_TBD, _ = self.look("teacher", views["global"])
            temperature = t.linear(*self.teacher_temperature, self.warmup_epochs)
            p_TBK = targets(seen_TBK, temperature, None if self.sinkhorn else self.center)
        looks = [self.look("student", views[key]) for key in ("global", "local") if key in views]
        image_VBP, local_VBP = (
            predict(F.normalize(torch.cat([look[i] for look in looks]).float(), dim=-1))
            for i, predict in enumerate(self.predictors)
        )
        image = self.contrast(image_VBP, image_TBP, self.queues[0].rows)
        local = self.contrast(local_VBP, local_TBP, self.queues[1].rows)
        groups = [distill(looks[0][2], p_TBK, self.student_temperature)]
        if len(looks) > 1:
            groups.append(distill(looks[1][2], p_TBK, self.student_temperature, skip_same=False))
        group = torch.stack(groups).mean()
        with torch.no_grad():
            self.center.lerp_(mean_over_ranks(seen_TBK.mean((0, 1))), 1 - self.center_momentum)
            for queue, rows_TBP in zip(self.queues, (image_TBP, local_TBP)):
                queue.enqueue(rows_TBP.transpose(0, 1).flatten(0, 1))
            for memory, rows_VBD in zip(self.memories.values(), (looks[0][3], patch_TBD)):
                memory.enqueue(rows_VBD[0])
        loss = sum(w * part for w, part in zip(self.weights, (image, local, group)))
        logs = {"image": image.detach(), "local": local.detach(), "group": group.detach()}
        return loss, {**logs, "std": feature_std(looks[0][4].flatten(0, 1)), **teacher_logs(p_TBK)}

    def look(self, who, x_VBCHW):
        """Projections of image and local group (V, B, P), logits of the group (V, B, K), mean patches and class tokens."""
        net, rows_QD = self.student if who == "student" else self.teacher.net, self.memories[who].rows
        h_NSD = net["encoder"].encode(net["encoder"].embed(x_VBCHW.flatten(0, 1)))
        class_ND, mean_ND = h_NSD[:, 0], h_NSD.mean(1)
        near_Nk = (mean_ND.detach().to(rows_QD.dtype) @ rows_QD.T).topk(min(self.neighbours, len(rows_QD)), 1).indices
        among_NkD = torch.cat((mean_ND[:, None], rows_QD[near_Nk].to(h_NSD.dtype)), 1)
        found = [net["image"](class_ND), net["local"](net["relate"](among_NkD)[:, 0]), net["group"](class_ND)]
        return [y_NP.float().unflatten(0, x_VBCHW.shape[:2]) for y_NP in (*found, h_NSD[:, 1:].mean(1), class_ND)]

    def contrast(self, guess_VBP, goal_TBP, rows_QP):
        """NCE of every view with the other global views; global and local views count alike."""
        T, sizes = len(goal_TBP), []
        pairs = [[(guess_VBP[v], goal_TBP[u]) for v in range(T) for u in range(T) if u != v]]
        pairs += [[(guess_BP, goal_BP) for guess_BP in guess_VBP[T:] for goal_BP in goal_TBP]]
        for size in filter(None, pairs):
            guess_NP, goal_NP = (torch.cat(rows) for rows in zip(*size))
            sizes.append(info_nce(guess_NP, goal_NP, rows_QP, self.temperature)[0])
        return torch.stack(sizes).mean()

    def after_backward(self, t):
        if t.epoch < self.freeze_last:
            self.student["group"].hold_prototypes()

    def after_step(self, t):
        self.teacher.update(self.student, t.cosine(*self.momentum))

    def kept(self):
        return self.teacher.net["encoder"]
