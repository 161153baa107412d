r"""Instance discrimination (NPID): every image is a class of its own, and its weights are what it looked like before.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018,
arXiv:1805.01978.

    P(i | v) = exp(b_i . v / tau) / Z,   h(i, v) = P(i | v) / (P(i | v) + m / n)                              (eq. 2, 6)
    L = -log h(i, v_i) - sum_{m noise rows j} log(1 - h(j, v_i)) + lambda |v_i - b_i|^2                       (eq. 7, 10)
    b_i <- normalise( mu b_i + (1 - mu) v_i ),   Z = n E exp(b . v / tau) over random unit b                  (eq. 8)

Shapes: B images, n in the data, P embedding. One view a step: the bank is the other. The m noise rows are drawn once for
the whole batch and never hold an image's own; the paper draws them for each image. With `softmax` L is the cross-entropy
of the image among the noise rows, and with `negatives=0` among all n: the paper's choice for small data. Differs: the
bank starts with the embeddings of all images, for a short run cannot wait an epoch for noise to leave it; Z is that of
random rows by expectation, where the paper estimates it from its first batch, whose rows are random.
"""

import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce, nce
from nolabel.networks.memory import MemoryBank, partition
from nolabel.views.image import OneView


class InstanceDiscrimination(Method):
    temperature: float = 0.07
    """tau of eq. 2"""
    negatives: int = 4096
    """m, noise rows; 0 for all rows of the bank"""
    softmax: bool = False
    """cross-entropy instead of noise-contrastive estimation"""
    bank_momentum: float = 0.5
    """mu, how much of an old row stays"""
    proximal: float = 0.0
    """lambda of eq. 10; 0 as in the authors' code"""
    out: int = 128
    """P"""
    views: OneView = OneView(scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, gray=0.2)
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0, drops=(0.6, 0.8))

    def build(self, data, image):
        self.encoder = image
        self.head = nn.Linear(image.dim, self.out)
        self.bank = MemoryBank(data.size, self.out, self.bank_momentum)

    def begin_stage(self, t, data):
        self.bank.rows.copy_(F.normalize(data.encode(nn.Sequential(self.encoder, self.head)), dim=1))

    def forward(self, views, t):
        v_BP = F.normalize(self.head(self.encoder(views["x"])).float())
        index_B = views["index"]
        old_BP = self.bank(index_B)
        noise_KP, skip_B = self.bank.noise(self.bank.draw(self.negatives), index_B)
        if self.softmax:
            loss, accuracy = info_nce(v_BP, old_BP, noise_KP, self.temperature, skip_B)
        else:
            mean_exp = partition(self.out, self.temperature)
            loss, accuracy = nce(v_BP, old_BP, noise_KP, self.temperature, mean_exp, skip_B)
        distance = (v_BP - old_BP).square().sum(1).mean()
        self.bank.update(index_B, v_BP)
        return loss + self.proximal * distance, {
            "instance_accuracy": accuracy,
            "staleness": distance.detach() / 2,
        }
