r"""Next-token prediction: tell every word from the words before it.

Radford, Narasimhan, Salimans, Sutskever, "Improving Language Understanding by Generative Pre-Training", OpenAI 2018.

    L = -mean over tokens i of  log p(x_i | x_1 ... x_{i-1}),   p = softmax(W h_{i-1})                       (eq. 1, 2)

Shapes: B texts, L tokens, D features; W the embedding of the words. PAD is neither attended nor predicted. Differs: no
dropout; the tiny encoders are pre-LN (GPT-2, Radford et al. 2019), the paper's is post-LN; the feature of a text is the mean
of its tokens.
"""

from nolabel.core import Method, Optim, UserError
from nolabel.core.types import PAD
from nolabel.losses.words import word_cross_entropy
from nolabel.views.text import OneText


class NextToken(Method):
    views: OneText = OneText(length=512)
    optim: Optim = Optim("adamw", lr=2.5e-4, weight_decay=0.01, scaled=False, warmup_epochs=0.1, clip=1.0)

    def build(self, data, text):
        if not text.causal:
            raise UserError("next_token needs a text encoder that sees no later words: take tiny_causal_text")
        text.pool = "mean"  # END, the last token, predicts nothing
        self.encoder = text

    def forward(self, views, t):
        text_BL = views["text"]
        h_BLD, next_BL = self.encoder.encode(text_BL[:, :-1]), text_BL[:, 1:]
        loss, accuracy = word_cross_entropy(h_BLD, self.encoder.words.weight, next_BL, next_BL != PAD)
        return loss, {"accuracy": accuracy, "perplexity": loss.detach().exp()}
