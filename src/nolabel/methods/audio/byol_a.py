r"""BYOL-A: know what an average of the network sees in the same sound, mixed with other sounds and stretched anew.

Niizumi, Takeuchi, Ohishi, Harada, Kashino, "BYOL for Audio: Self-Supervised Learning for General-Purpose Audio
Representation", IJCNN 2021, arXiv:2103.06695.

    x' = log( (1 - alpha) exp(x) + alpha exp(x_k) ),   x_k a sound of an earlier batch, alpha uniform        (section III-C)
    L = |n(q(z_a)) - n(z'_b)|^2 + |n(q(z_b)) - n(z'_a)|^2,   theta' <- tau theta' + (1 - tau) theta                (eq. 2)

Both views are of one segment: mixed, cropped from a wider canvas, resized, normalised by batch. Shapes: B sounds, M mels,
F frames, P embedding, Q remembered sounds. The batch is that of all processes. Differs: mean and deviation before mixing
are those of the view instead of the data's; a segment has 0.96 s, for 96 frames.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.distill import negative_cosine
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.audio import LogMel, log_mix, resize_crop


class BYOLA(Method):
    hidden: int = 4096
    """width of the hidden layers of projector and predictor"""
    out: int = 256
    """P"""
    momentum: float = 0.99
    """tau"""
    mix: float = 0.4
    """largest alpha"""
    queue: int = 2048
    """Q"""
    canvas: tuple[float, float] = (1.0, 1.5)
    """mels and frames of the canvas around a sound, in those of the sound"""
    scale: tuple[float, float] = (0.6, 1.5)
    """range of the mels and of the frames of a crop"""
    views: LogMel = LogMel(rate=16000, seconds=0.96, mels=64, window=0.064, low=60.0, high=7800.0)
    optim: Optim = Optim("adam", lr=3e-4, weight_decay=0.0, scaled=False, warmup_epochs=0, final_lr=3e-4)

    def build(self, data, audio):
        self.online = nn.Sequential(audio, mlp(audio.dim, self.hidden, self.out))
        self.target = EMA(self.online)
        self.head = mlp(self.out, self.hidden, self.out)
        self.memory = Queue(self.queue, self.views.mels * self.views.frames, unit=False)

    def forward(self, views, t):
        x_B1MF = views["x"]
        both_2B1MF = torch.cat([self.augmented(x_B1MF) for _ in range(2)])
        both_2B1MF = both_2B1MF - mean_over_ranks(both_2B1MF.mean())
        both_2B1MF = both_2B1MF / mean_over_ranks(both_2B1MF.square().mean()).sqrt().clamp_min(1e-6)
        self.memory.enqueue(x_B1MF.flatten(1))
        z_2BP = self.online(both_2B1MF)
        guess_a_BP, guess_b_BP = self.head(z_2BP).chunk(2)
        seen_a_BP, seen_b_BP = self.target(both_2B1MF).chunk(2)
        loss = 4 + 2 * (negative_cosine(guess_a_BP, seen_b_BP) + negative_cosine(guess_b_BP, seen_a_BP))
        return loss, {"cosine": 1 - loss.detach() / 4, "std": feature_std(z_2BP)}

    def augmented(self, x_B1MF):
        """Mixed with a remembered sound, of which there is none at first, and cropped."""
        u_B6 = torch.rand(len(x_B1MF), 6, device=x_B1MF.device)
        known = self.memory.seen.clamp(max=self.queue)
        past_B1MF = self.memory.rows[(u_B6[:, 0] * known).long()].view_as(x_B1MF)
        alpha_B = self.mix * u_B6[:, 1] * (known > 0)
        return resize_crop(log_mix(x_B1MF, past_B1MF, alpha_B), u_B6[:, 2:], self.canvas, self.scale)

    def after_step(self, t):
        self.target.update(self.online, self.momentum)

    def kept(self):
        return self.online[0]
