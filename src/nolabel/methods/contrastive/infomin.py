r"""InfoMin: MoCo v2 on views that share as little as they can bear, and a jigsaw of a third view that seeks the same key.

Tian, Sun, Poole, Krishnan, Schmid, Isola, "What Makes for Good Views for Contrastive Learning?", NeurIPS 2020,
arXiv:2005.10243.

    L = (1 - beta) InfoNCE(q, k, queue) + beta InfoNCE(q', k, queue),  q' of the tiles of another crop        (section 5)
    theta_k <- m theta_k + (1 - m) theta_q;   I(v_1; v_2) >= ln(K + 1) - L                                    (eq. 1)

Shapes: B images, T tiles, P projection, K rows of the queue. Tiles come in random order, as in PIRL, cropped and flipped
only. Differs: RandAugment has the operations of FixMatch at uniform magnitudes, where the authors' are near the largest,
and comes after grey instead of before it.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import world
from nolabel.losses.contrastive import info_nce
from nolabel.networks.batchnorm import in_groups, shuffled
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.parts import TwoViewsAndParts


class InfoMin(Method):
    temperature: float = 0.15
    """of InfoNCE"""
    momentum: float = 0.999
    """m"""
    queue: int = 65536
    """K"""
    weight: float = 0.5
    """beta, of the tiles"""
    hidden: int = 2048
    """width of the projection head's hidden layer"""
    out: int = 128
    """P"""
    splits: int = 8
    """parts of the batch that batch norm sees apart, over all processes; keys are dealt out to them at random"""
    views: TwoViewsAndParts = TwoViewsAndParts()
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0)

    def build(self, data, image):
        head = mlp(image.dim, self.hidden, self.out, norm=None)
        self.query = nn.Sequential(image, head)
        self.key = EMA(self.query)
        self.part_head = mlp(image.dim, self.hidden, self.out, norm=None)
        self.join = nn.Linear(self.views.count * self.out, self.out)
        self.memory = Queue(self.queue, self.out)

    def forward(self, views, t):
        splits = max(1, self.splits // world())
        key_BP = shuffled(self.key, views["b"], splits)
        query_BP = in_groups(self.query, views["a"], splits)
        part_BTP = self.part_head(self.query[0](views["parts"].flatten(0, 1))).unflatten(0, (len(query_BP), -1))
        joined_BP = self.join(part_BTP.flatten(1))
        same, accuracy = info_nce(query_BP, key_BP, self.memory.rows, self.temperature)
        jigsaw, _ = info_nce(joined_BP, key_BP, self.memory.rows, self.temperature)
        self.memory.enqueue(key_BP)
        return (1 - self.weight) * same + self.weight * jigsaw, {
            "instance_accuracy": accuracy,
            "information": torch.log(torch.full_like(same, self.queue + 1.0)).detach() - same.detach(),
            "jigsaw_loss": jigsaw.detach(),
        }

    def after_step(self, t):
        self.key.update(self.query, self.momentum)

    def kept(self):
        return self.query[0]
