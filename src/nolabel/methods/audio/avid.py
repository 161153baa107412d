r"""AVID and CMA: a clip finds its sound among those of other clips, then also clips that look and sound alike.

Morgado, Vasconcelos, Misra, "Audio-Visual Instance Discrimination with Cross-Modal Agreement", CVPR 2021,
arXiv:2004.12943.

    AVID   L_x = 1/2 NCE(v_i; a bank, {i}) + 1/2 NCE(a_i; v bank, {i})                                     (eq. 2 and 3)
    CMA    L = 1/2 L_x + 1/2 ( 1/2 NCE(v_i; v bank, P_i) + 1/2 NCE(a_i; a bank, P_i) )                           (eq. 7)
           P_i = the rows j != i with the largest min( v_i . v_j, a_i . a_j ) of the banks                  (eq. 5 and 6)
    NCE(q; bank, P) = - mean_{p in P} log h(p) - sum_{noise rows k} log(1 - h(k)),   b_i <- n( m b_i + (1 - m) z_i )

Shapes: B clips, N in the data, E embedding, P agreeing rows. h is that of instance discrimination, with the Z of random
rows in all four comparisons. CMA begins where AVID has learned enough for the banks to mean something, after `instance` of
the epochs, and its noise rows are none of P_i. Differs: noise rows are drawn once for the whole batch; CMA goes on in the
same run with the same optimiser; all of P_i are positives in every step, where the code draws 8 of them; the banks start
with the embeddings of all clips instead of noise.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import join_rows, own_rows
from nolabel.losses.contrastive import nce
from nolabel.losses.geometry import feature_std
from nolabel.networks.memory import MemoryBank, agreeing_rows, partition
from nolabel.networks.mlp import mlp
from nolabel.views.sounding import SoundingClip

OTHER = {"video": "audio", "audio": "video"}


class AVID(Method):
    temperature: float = 0.07
    """of the softmax that is estimated"""
    negatives: int = 1024
    """noise rows of the other bank; 0 for all"""
    instance: float = 0.6
    """share of the epochs before CMA: 30 of 50; 1 for AVID alone"""
    agreeing: int = 32
    """P"""
    within: int = 64
    """noise rows of the own bank; 0 for all"""
    refresh: int = 5
    """epochs from one search for agreeing rows to the next"""
    bank_momentum: float = 0.5
    """m, how much of an old row stays"""
    hidden: int = 512
    """width of the two hidden layers of a head"""
    out: int = 128
    """E"""
    norm: bool = False
    """batch norm in and after the heads: without it embeddings of a modality first become alike, for many epochs"""
    views: SoundingClip = SoundingClip()
    optim: Optim = Optim("adam", lr=2e-4, weight_decay=1e-5, scaled=False, warmup_epochs=0, final_lr=2e-4)

    def build(self, data, video, audio):
        self.encoders = nn.ModuleDict({"video": video, "audio": audio})
        widths = self.hidden, self.hidden, self.out
        norms = {"norm": "bn" if self.norm else None, "last_norm": "bn_noaffine" if self.norm else None}
        self.heads = nn.ModuleDict({k: mlp(net.dim, *widths, **norms) for k, net in self.encoders.items()})
        self.banks = nn.ModuleDict({k: MemoryBank(data.size, self.out, self.bank_momentum) for k in self.encoders})
        self.count = min(self.agreeing, data.size - 1)
        self.register_buffer("friends", torch.arange(data.size)[:, None].repeat(1, self.count))
        self.register_buffer("found", torch.zeros(()))  # 1 once there are agreeing rows

    def begin_stage(self, t, data):
        for k, bank in self.banks.items():
            bank.rows.copy_(F.normalize(data.encode(nn.Sequential(self.encoders[k], self.heads[k]), k), dim=1))

    def begin_epoch(self, t, data):
        late = t.epoch - self.instance * t.epochs
        if self.instance < 1 and late >= 0 and (not self.found or round(t.epoch) % self.refresh == 0):
            one, other = (bank.rows for bank in self.banks.values())
            self.friends.copy_(join_rows(agreeing_rows(one, other, self.count, own_rows(len(one))), len(one)))
            self.found.fill_(1)

    def forward(self, views, t):
        index_B = views["index"]
        friend_BP = self.friends[index_B]
        hidden_BS = torch.cat((index_B[:, None], friend_BP), 1)
        z_BE = {k: F.normalize(head(self.encoders[k](views[k])).float()) for k, head in self.heads.items()}
        logs = {"std": torch.stack([feature_std(z) for z in z_BE.values()]).amin()}

        def contrast(k, bank, positive, drawn):
            noise_KE, skip_BS = bank.noise(drawn, hidden_BS)
            mean_exp = partition(self.out, self.temperature)
            return nce(z_BE[k], bank(positive), noise_KE, self.temperature, mean_exp, skip_BS)

        drawn, near = (self.banks["video"].draw(count) for count in (self.negatives, self.within))
        cross = within = 0.0
        for k, other in OTHER.items():
            part, logs[f"{k}_accuracy"] = contrast(k, self.banks[other], index_B, drawn)
            cross = cross + part / 2
        for k in OTHER:
            within = within + contrast(k, self.banks[k], friend_BP, near)[0] / 2
        for k, bank in self.banks.items():
            bank.update(index_B, z_BE[k])
        loss = torch.lerp(cross, within, self.found / 2)
        return loss, {**logs, "across": cross.detach(), "within": within.detach()}

    def kept(self):
        return self.encoders
