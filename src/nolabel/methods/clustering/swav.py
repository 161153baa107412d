r"""SwAV: each view predicts the cluster code of the other views; codes use all prototypes equally.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", NeurIPS 2020, arXiv:2006.09882.

    l(z_v, q_t) = -sum_k q_t(k) log softmax(z_v . c_k / tau)                                                (eq. 2)
    q = Sinkhorn of exp(z . c / epsilon): samples sum to 1, prototypes to N / K                             (eq. 3-5)
    L = mean over codes t of the large crops and crops v != t of  l(z_v, q_t)                               (eq. 6)

Shapes: V crops, of which T = 2 large, B images, D features, P projection, K prototypes of unit length. A constant
encoder costs ln K or more. Small batches add a queue of earlier projections to the codes' Sinkhorn. Differs: the queue fills
from the start and not from `queue_from` on, so that it is full when it is first used.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import own_rows, world
from nolabel.losses.cluster import products, sinkhorn, swap, usage
from nolabel.losses.geometry import feature_std
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.networks.multicrop import each_crop
from nolabel.views.crops import SWAV_VIEWS
from nolabel.views.image import MultiCrop


class SwAV(Method):
    prototypes: int = 3000
    """K"""
    hidden: int = 2048
    """width of the projection head's hidden layers"""
    layers: int = 2
    """linear layers of the projection head"""
    out: int = 128
    """P"""
    batchnorm: bool = True
    """BatchNorm in the projection head"""
    temperature: float = 0.1
    """tau of eq. 2"""
    epsilon: float = 0.05
    """of eq. 3; 0.03 where the loss stays at ln K"""
    iterations: int = 3
    """rounds of Sinkhorn"""
    queue: int = 0
    """earlier projections of each large crop that join the codes; 3840 for batches of 256"""
    queue_from: float = 15
    """epochs before the queue is used"""
    freeze_last: float = 1
    """epochs during which the prototypes do not move"""
    freeze_steps: int = 0
    """steps during which they do not where these are more"""
    views: MultiCrop = SWAV_VIEWS
    optim: Optim = Optim("lars", lr=0.3, weight_decay=1e-6, warmup_epochs=10, final_lr=0.0048)

    def build(self, data, image):
        self.encoder = image
        norm = "bn" if self.batchnorm else None
        self.projector = mlp(image.dim, *[self.hidden] * (self.layers - 1), self.out, norm=norm)
        self.last = nn.Linear(self.out, self.prototypes, bias=False)
        self.normalise()
        self.queues = nn.ModuleList(Queue(self.queue, self.out) for _ in range(2 if self.queue else 0))

    def forward(self, views, t):
        h_VBD = each_crop(self.encoder, views)
        z_VBP = F.normalize(self.projector(h_VBD.flatten(0, 1)).float(), dim=1).unflatten(0, h_VBD.shape[:2])
        scores_VBK = products(z_VBP, self.last.weight)
        with torch.no_grad():
            codes_TBK = torch.stack([self.codes(v, z_VBP[v], scores_VBK[v], t) for v in range(len(views["global"]))])
            entropy = -(codes_TBK * codes_TBK.clamp_min(1e-12).log()).sum(-1).mean()
        used = usage((scores_VBK[0].detach() / self.temperature).softmax(-1))
        logs = {
            "code_entropy": entropy,
            "prototypes_used": used,
            "std": feature_std(z_VBP[: len(codes_TBK)].flatten(0, 1)),
        }
        return swap(scores_VBK, codes_TBK, self.temperature), logs

    def codes(self, view, z_BP, scores_BK, t):
        """Codes of one large crop, together with its queue once that is full."""
        if not self.queue:
            return sinkhorn(scores_BK, self.epsilon, self.iterations)
        queue = self.queues[view]
        if t.epoch >= self.queue_from and t.step * len(z_BP) * world() >= self.queue:
            earlier_QK = products(queue.rows[own_rows(self.queue)], self.last.weight)
            scores_BK = torch.cat((earlier_QK, scores_BK))
        queue.enqueue(z_BP)
        return sinkhorn(scores_BK, self.epsilon, self.iterations)[-len(z_BP) :]

    def held(self, t):
        """Whether the prototypes do not move yet."""
        return t.step < max(self.freeze_last * t.epoch_steps, self.freeze_steps)

    def after_backward(self, t):
        if self.held(t):
            self.last.weight.grad = None

    def after_step(self, t):
        if not self.held(t):
            self.normalise()

    @torch.no_grad()
    def normalise(self):
        self.last.weight.copy_(F.normalize(self.last.weight, dim=1))
