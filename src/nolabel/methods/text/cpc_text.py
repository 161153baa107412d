r"""CPC for text: from the passages so far, know the passages that follow among all passages of the batch.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748.

    L = - mean_k mean_s  log  exp(z_{s+k}^T W_k c_s) / sum_j exp(z_j^T W_k c_s),   z = encoder, c_s = GRU(z_1 ... z_s)
                                                                                          (eq. 3 and 4, section 3.3)

Shapes: B texts, S passages of each, D features, H width of the GRU, j over all passages of all ranks but those of the same
words as passage s + k, and empty ones, which nothing foretells either. Differs: passages are equal cuts of running text
instead of sentences, and any text encoder stands for the paper's convolution. What is kept is the encoder of passages.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.losses.contrastive import info_nce_distinct
from nolabel.views.text import Passages


class CPCText(Method):
    hidden: int = 2400
    """H"""
    ahead: int = 3
    """largest k"""
    views: Passages = Passages(count=8, length=32)
    optim: Optim = Optim("adam", lr=2e-4, weight_decay=0.0, scaled=False, warmup_epochs=0)

    def build(self, data, text):
        if self.ahead >= self.views.count:
            raise UserError(
                f"cpc_text cannot tell {self.ahead} passages ahead of {self.views.count}: raise views.count"
            )
        self.encoder = text
        self.context = nn.GRU(text.dim, self.hidden, batch_first=True)
        self.guess = nn.ModuleList(nn.Linear(self.hidden, text.dim, bias=False) for _ in range(self.ahead))

    def forward(self, views, t):
        text_BSW = views["text"]
        z_BSD = self.encoder(text_BSW.flatten(0, 1)).unflatten(0, text_BSW.shape[:2])
        c_BSH, _ = self.context(z_BSD)
        place_BS = torch.arange(z_BSD[..., 0].numel(), device=z_BSD.device).view(z_BSD.shape[:2])
        same_N, z_ND = fingerprint(text_BSW).flatten(), z_BSD.flatten(0, 1)
        terms = [
            info_nce_distinct(guess(c_BSH[:, :-k]).flatten(0, 1), z_ND, place_BS[:, k:].flatten(), same_N)
            for k, guess in enumerate(self.guess, 1)
        ]
        logs = {f"accuracy_{k}": accuracy for k, (_, accuracy) in enumerate(terms, 1)}
        return torch.stack([loss for loss, _ in terms]).mean(), logs


def fingerprint(text_W):
    """Numbers (...) of passages (..., W): equal for equal words, 0 for none, as PAD is 0; by int64 that overflows."""
    number = torch.zeros_like(text_W[..., 0])
    for word in text_W.unbind(-1):
        number = 6364136223846793005 * number + word
    return number
