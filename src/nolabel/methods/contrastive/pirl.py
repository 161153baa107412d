r"""PIRL: an image and its shuffled tiles (or its rotation) get the same embedding, by way of a memory bank.

Misra, van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", CVPR 2020, arXiv:1912.01991.

    L_NCE(b, v) = -log h(b, v) - sum_{m noise rows b'} log(1 - h(b', v))                                      (eq. 4)
    L = lambda L_NCE(b_I, g(parts of I^t)) + (1 - lambda) L_NCE(b_I, f(I))                                    (eq. 5)
    b_I <- normalise( mu b_I + (1 - mu) f(I) )

Shapes: B images, K parts of an image, D features, P embedding. g embeds each part, then all of them as the view gives
them: tiles come in random order, so that their order is nothing to know. h is that of instance discrimination, as in the
authors' code, with the Z of random rows. Differs: noise rows are drawn once for the whole batch; colours change alike in
all tiles of an image, by jitter and grey alone, without posterise, sharpness, solarise and autocontrast; the bank starts
with the embeddings of all images instead of noise.
"""

import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.contrastive import info_nce, nce
from nolabel.networks.memory import MemoryBank, partition
from nolabel.views.parts import ImageAndParts


class PIRL(Method):
    temperature: float = 0.07
    """of h"""
    negatives: int = 32000
    """m, noise rows; 0 for all rows of the bank"""
    softmax: bool = False
    """cross-entropy instead of noise-contrastive estimation"""
    weight: float = 0.5
    """lambda of eq. 5"""
    bank_momentum: float = 0.5
    """mu, how much of an old row stays"""
    out: int = 128
    """P"""
    views: ImageAndParts = ImageAndParts()
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0, final_lr=1.2e-4)

    def build(self, data, image):
        self.encoder = image
        self.image_head = nn.Linear(image.dim, self.out)
        self.part_head = nn.Linear(image.dim, self.out)
        self.join = nn.Linear(self.views.count * self.out, self.out)
        self.bank = MemoryBank(data.size, self.out, self.bank_momentum)

    def begin_stage(self, t, data):
        self.bank.rows.copy_(F.normalize(data.encode(nn.Sequential(self.encoder, self.image_head)), dim=1))

    def forward(self, views, t):
        image_BP = self.image_head(self.encoder(views["x"]))
        parts_BKP = self.part_head(self.encoder(views["parts"].flatten(0, 1))).unflatten(0, (len(image_BP), -1))
        joined_BP = self.join(parts_BKP.flatten(1))
        index_B = views["index"]
        old_BP = self.bank(index_B)
        noise_KP, skip_B = self.bank.noise(self.bank.draw(self.negatives), index_B)
        mean_exp = partition(self.out, self.temperature)

        def contrast(v_BP):
            if self.softmax:
                return info_nce(v_BP, old_BP, noise_KP, self.temperature, skip_B)
            return nce(v_BP, old_BP, noise_KP, self.temperature, mean_exp, skip_B)

        same, accuracy = contrast(image_BP)
        other, _ = contrast(joined_BP)
        self.bank.update(index_B, image_BP)
        return self.weight * other + (1 - self.weight) * same, {
            "instance_accuracy": accuracy,
            "image_loss": same.detach(),
            "parts_loss": other.detach(),
            "cosine": F.cosine_similarity(image_BP.float(), joined_BP.float()).mean().detach(),
        }
