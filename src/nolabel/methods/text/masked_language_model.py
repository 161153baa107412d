r"""Masked language modelling: hide some words of a text and tell them from the words on both sides.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019, arXiv:1810.04805.

    L = -mean over chosen places i of  log p(x_i | x~),   p = softmax(W f(h_i) + b),   h = encoder(x~)   (section 3.1)
    x~_i = MASK with 0.8, any word with 0.1, x_i with 0.1, at the 15 % chosen places                 (appendix A.1)

Shapes: B texts, L tokens, M chosen places, D features; W the embedding of the words, f one layer with GELU and norm.
Differs: no next-sentence prediction (dropping it helps: RoBERTa, Liu et al. 2019), places are drawn anew at every step
as there, no dropout, the learning rate ends in a cosine. Chooses tokens, not whole words.
"""

import torch
from torch import nn

from nolabel.core import Method, Optim
from nolabel.losses.words import word_cross_entropy
from nolabel.views.masks import mask_words, take
from nolabel.views.text import OneText


class MaskedLanguageModel(Method):
    hide: float = 0.15
    """share of a text's words that is chosen"""
    mask: float = 0.8
    """share of the chosen words that becomes MASK"""
    swap: float = 0.1
    """share of the chosen words that becomes any other word"""
    views: OneText = OneText(length=512)
    optim: Optim = Optim("adamw", lr=1e-4, weight_decay=0.01, scaled=False, warmup_epochs=0.4, clip=1.0)

    def build(self, data, text):
        self.encoder, self.vocabulary = text, data.vocabulary
        self.head = nn.Sequential(nn.Linear(text.dim, text.dim), nn.GELU(), nn.LayerNorm(text.dim))
        self.bias = nn.Parameter(torch.zeros(data.vocabulary))

    def forward(self, views, t):
        text_BL = views["text"]
        shown_BL, hide_BM, real_BM = mask_words(text_BL, self.vocabulary, self.hide, self.mask, self.swap)
        h_BMD = self.head(take(self.encoder.encode(shown_BL), hide_BM))
        words_VD = self.encoder.words.weight
        loss, accuracy = word_cross_entropy(h_BMD, words_VD, take(text_BL, hide_BM), real_BM, self.bias)
        return loss, {"masked_accuracy": accuracy, "perplexity": loss.detach().exp()}
