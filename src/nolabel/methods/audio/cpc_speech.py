r"""CPC for speech: from the sound so far, know the moments that follow among other moments.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748.

    L = - mean_k mean_t  log  exp(z_{t+k}^T W_k c_t) / sum_j exp(z_j^T W_k c_t),   z = encoder(wave), c_t = GRU(z_1 ... z_t)
                                                                                          (eq. 3 and 4, section 3.1)

Shapes: B recordings, T moments of 10 ms, D features, H width of the GRU, j over the positive and all moments that
`negatives` names. The mutual information of c_t and z_{t+k} is at least ln N - L (eq. 5). Nothing of the encoder may look
ahead of its window: no norm over time. Windows of 465 samples every 160 share some up to k = 2, so that k >= 3 tell more.
W_k begin near zero: guesses at random would first make all moments alike. Differs: all moments serve as wrong answers
instead of a sample of them; there are none of the same speaker alone, whom unlabelled recordings do not name. What is kept
is encoder and GRU: c_t for what is said, the mean of c_t for who says it.
"""

from typing import Literal

import torch
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.encoders.wrapped import Recurrent
from nolabel.losses.contrastive import info_nce_places, info_nce_within
from nolabel.views.audio import Wave


class CPCSpeech(Method):
    hidden: int = 256
    """H"""
    ahead: int = 12
    """largest k"""
    negatives: Literal["mixed", "other", "sequence"] = "mixed"
    """wrong answers are moments of the whole batch, of all recordings but the own one, or of the own one (table 2)"""
    views: Wave = Wave(rate=16000, seconds=1.28)
    optim: Optim = Optim("adam", lr=2e-4, weight_decay=0.0, scaled=False, warmup_epochs=0)

    def build(self, data, audio):
        self.encoder = Recurrent(audio, self.hidden)
        self.guess = nn.ModuleList(nn.Linear(self.hidden, audio.dim, bias=False) for _ in range(self.ahead))
        for guess in self.guess:
            nn.init.normal_(guess.weight, std=0.01)

    def forward(self, views, t):
        z_BTD, c_BTH = self.encoder.moments(views["x"])
        if self.ahead >= z_BTD.shape[1]:
            raise UserError(
                f"cpc_speech cannot tell {self.ahead} moments ahead of {z_BTD.shape[1]}: raise views.seconds"
            )
        terms = [self.contrast(guess(c_BTH[:, :-k]), z_BTD, k) for k, guess in enumerate(self.guess, 1)]
        logs = {f"accuracy_{k}": accuracy for k, (_, accuracy) in enumerate(terms, 1)}
        return torch.stack([loss for loss, _ in terms]).mean(), logs

    def contrast(self, guess_BLD, z_BTD, k):
        """Guesses at moments 1 ... T - k of what comes k moments later."""
        B, T = z_BTD.shape[:2]
        place_BT = torch.arange(B * T, device=z_BTD.device).view(B, T)
        if self.negatives == "sequence":
            return info_nce_within(guess_BLD, z_BTD, place_BT[0, k:])
        skip_MT = place_BT[:, None].expand(B, T - k, T).flatten(0, 1) if self.negatives == "other" else None
        return info_nce_places(guess_BLD.flatten(0, 1), z_BTD.flatten(0, 1), place_BT[:, k:].flatten(), skip_MT)
