r"""CMC: the light of an image finds its colours among those of other images, and the colours their light.

Tian, Krishnan, Isola, "Contrastive Multiview Coding", ECCV 2020, arXiv:1906.05849.

    L(V1, V2) = NCE of b2_i among noise rows b2_j, asked by v1 = f1(light of x_i)                      (eq. 2, 7)
    L = L(V1, V2) + L(V2, V1),   b_i <- normalise( mu b_i + (1 - mu) v_i ) in either bank                     (eq. 4)

Shapes: B images, D features of either half, P embedding. Both halves see the same pixels, in Lab or YDbDr. What is kept is
both encoders, 2 D features. NCE is that of instance discrimination, with the Z of random rows for both. Differs: noise
rows are drawn once for the whole batch; the halves are full encoders each, so choose one of half the width to compare at
equal size; the banks start with the embeddings of all images instead of noise; channels of YDbDr (and Lab) are scaled by
round numbers (0.5) instead of by their means and deviations on ImageNet (ranges in the case of Lab).
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.wrapped import LightAndColour
from nolabel.losses.contrastive import info_nce, nce
from nolabel.networks.memory import MemoryBank, partition
from nolabel.views.image import OneView


class CMC(Method):
    space: str = "lab"
    """colour space that is split: lab or ydbdr"""
    temperature: float = 0.07
    """of the softmax that is estimated"""
    negatives: int = 16384
    """noise rows; 0 for all rows of the bank"""
    softmax: bool = False
    """cross-entropy instead of noise-contrastive estimation"""
    bank_momentum: float = 0.5
    """mu, how much of an old row stays"""
    out: int = 128
    """P"""
    views: OneView = OneView(scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1))
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0, drops=(0.5, 0.67, 0.83))

    def build(self, data, image):
        self.encoder = LightAndColour(image, self.space, self.views.mean, self.views.std)
        self.heads = nn.ModuleList(nn.Linear(image.dim, self.out) for _ in range(2))
        self.banks = nn.ModuleList(MemoryBank(data.size, self.out, self.bank_momentum) for _ in range(2))

    @torch.no_grad()
    def begin_stage(self, t, data):
        for half_ND, g, bank in zip(data.encode(self.encoder).chunk(2, dim=1), self.heads, self.banks):
            bank.rows.copy_(F.normalize(g(half_ND), dim=1))

    def forward(self, views, t):
        index_B = views["index"]
        v_2BP = [F.normalize(g(h_BD).float()) for g, h_BD in zip(self.heads, self.encoder.halves(views["x"]))]
        drawn = self.banks[0].draw(self.negatives)
        loss, logs = 0.0, {}
        for v_BP, bank, name in zip(v_2BP, reversed(self.banks), ("light", "color")):
            noise_KP, skip_B = bank.noise(drawn, index_B)
            if self.softmax:
                part, accuracy = info_nce(v_BP, bank(index_B), noise_KP, self.temperature, skip_B)
            else:
                mean_exp = partition(self.out, self.temperature)
                part, accuracy = nce(v_BP, bank(index_B), noise_KP, self.temperature, mean_exp, skip_B)
            loss = loss + part
            logs |= {f"{name}_loss": part.detach(), f"{name}_accuracy": accuracy}
        for v_BP, bank in zip(v_2BP, self.banks):
            bank.update(index_B, v_BP)
        return loss, logs
