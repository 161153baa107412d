r"""Skip-thought: from the vector of one passage, word by word, tell the passages before and after it.

Kiros, Zhu, Salakhutdinov, Zemel, Torralba, Urtasun, Fidler, "Skip-Thought Vectors", NIPS 2015, arXiv:1506.06726.

    L = - sum_t log P(w_{i+1}^t | w_{i+1}^{<t}, h_i)  -  sum_t log P(w_{i-1}^t | w_{i-1}^{<t}, h_i),   h_i = encoder(s_i)
    P = softmax(V d^t),   d^t a GRU of the words so far and of h_i at every step                             (eq. 5 to 8)

Shapes: B texts, S = 3 passages of W words, D features, H width of the decoders. The decoders share V and the words, and
are dropped. Differs: means over words instead of sums; passages are equal cuts of running text, not sentences, and none
is told from an empty one; any text encoder stands for the paper's GRU.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.types import PAD, START
from nolabel.losses.words import word_cross_entropy
from nolabel.views.text import Passages


class SkipThought(Method):
    hidden: int = 2400
    """H"""
    width: int = 620
    """of the words that decoders read"""
    views: Passages = Passages(count=3, length=32)
    optim: Optim = Optim("adam", lr=1e-3, weight_decay=0.0, scaled=False, warmup_epochs=0, clip=10.0)

    def build(self, data, text):
        self.encoder = text
        self.words = nn.Embedding(data.vocabulary, self.width)
        self.before = nn.GRU(self.width + text.dim, self.hidden, batch_first=True)
        self.after = nn.GRU(self.width + text.dim, self.hidden, batch_first=True)
        self.scores = nn.Linear(self.hidden, data.vocabulary, bias=False)

    def forward(self, views, t):
        before_BW, here_BW, after_BW = views["text"].unbind(1)
        before_BW = before_BW.where(here_BW[:, :1] != PAD, PAD)  # an empty passage has nothing to tell
        h_BD = self.encoder(here_BW)
        before, _ = self.decode(self.before, h_BD, before_BW)
        after, accuracy = self.decode(self.after, h_BD, after_BW)
        perplexity = ((before.detach() + after.detach()) / 2).exp()
        return before + after, {"next_accuracy": accuracy, "perplexity": perplexity}

    def decode(self, decoder, h_BD, text_BW):
        """The loss and accuracy of a decoder that is told the true words so far."""
        so_far_BW = torch.cat((torch.full_like(text_BW[:, :1], START), text_BW[:, :-1]), 1)
        told_BWD = h_BD[:, None].expand(-1, text_BW.shape[1], -1)
        d_BWH, _ = decoder(torch.cat((self.words(so_far_BW), told_BWD), -1))
        return word_cross_entropy(d_BWH, self.scores.weight, text_BW, text_BW != PAD)
