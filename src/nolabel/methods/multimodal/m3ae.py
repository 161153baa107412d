r"""M3AE: one masked autoencoder over the patches of an image and the tokens of its caption.

Geng, Liu, Lee, Schuurmans, Levine, Abbeel, "Multimodal Masked Autoencoders Learn Transferable Representations", 2022,
arXiv:2205.14204.

    L = mean over hidden patches of (guess - patch)^2  +  lambda  mean over hidden tokens of -log p(token)   (section 3)

Shapes: B pairs, L patches and T text tokens, K of each kept and M hidden, D features, W width of the decoder, P values a
patch, V words. Encoder and decoder see both modalities at once. Differs: masks are drawn for each sample (the released
code: for each batch); images need no modality embedding in the encoder, as the bias of their patches is one. PAD is not
attended, kept, hidden or predicted. What is kept is the encoder, as it sees images.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.vit import fixed_positions
from nolabel.losses.words import word_cross_entropy
from nolabel.networks.transformer import Transformer, sincos_positions
from nolabel.views.masks import mask_texts, random_mask, take
from nolabel.views.pairs import Captioned


class M3AE(Method):
    undecayed = ("words.weight",)
    hide: float = 0.75
    """share of the patches that is hidden"""
    hide_text: float = 0.75
    """share of a caption's tokens that is hidden"""
    text_weight: float = 0.5
    """lambda"""
    width: int = 512
    """W"""
    depth: int = 8
    """of the decoder"""
    heads: int = 16
    """of the decoder"""
    views: Captioned = Captioned(size=256, scale=(0.2, 1.0), flip=0.5, length=64)
    optim: Optim = Optim("adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=5)

    def build(self, data, tokens):
        fixed_positions(tokens)
        self.encoder = tokens
        self.words = nn.Embedding(data.vocabulary, tokens.dim)
        self.into = nn.Linear(tokens.dim, self.width)
        self.decoder = Transformer(self.width, self.depth, self.heads)
        self.to_patch = nn.Linear(self.width, tokens.patch_dim)
        self.to_word = nn.Linear(self.width, data.vocabulary)
        self.is_text, self.is_text_W = nn.Parameter(torch.empty(tokens.dim)), nn.Parameter(torch.empty(self.width))
        self.hidden_patch, self.hidden_word = (nn.Parameter(torch.empty(self.width)) for _ in range(2))
        nn.init.normal_(self.words.weight)  # as large as their positions
        for token in (self.is_text, self.is_text_W, self.hidden_patch, self.hidden_word):
            nn.init.normal_(token, std=0.02)
        self.register_buffer("at_TD", sincos_positions(tokens.dim, data.shapes["text"]), persistent=False)
        self.register_buffer("at_TW", sincos_positions(self.width, data.shapes["text"]), persistent=False)
        self.register_buffer("patch_at_LW", sincos_positions(self.width, tokens.grid), persistent=False)

    def forward(self, views, t):
        image, text_BT = views["image"], views["text"]
        patch_BLD = self.encoder.embed(image)
        word_BTD = self.words(text_BT) + self.at_TD[: text_BT.shape[1]] + self.is_text
        keep_BK, hide_BM = random_mask(*patch_BLD.shape[:2], self.hide, device=image.device)
        word_keep_BK, seen_BK, word_hide_BM, real_BM = mask_texts(text_BT, self.hide_text)
        kept_BKD = torch.cat((take(patch_BLD, keep_BK), take(word_BTD, word_keep_BK)), 1)
        visible_BK = F.pad(seen_BK, (keep_BK.shape[1], 0), value=True)
        h_BTD = self.encoder.encode(kept_BKD, visible_BK)

        word_at_TW = self.at_TW + self.is_text_W
        kept_at_BKW = torch.cat((self.patch_at_LW[keep_BK], word_at_TW[word_keep_BK]), 1)
        hidden = self.hidden_patch + self.patch_at_LW[hide_BM], self.hidden_word + word_at_TW[word_hide_BM]
        x_BSW = torch.cat((self.into(h_BTD) + F.pad(kept_at_BKW, (0, 0, 1, 0)), *hidden), 1)
        visible_BS = torch.cat((F.pad(visible_BK, (1, hide_BM.shape[1]), value=True), real_BM), 1)
        x_BSW = self.decoder(x_BSW, visible_BS[:, None, None])
        _, patch_BMW, guess_BMW = x_BSW.split((h_BTD.shape[1], hide_BM.shape[1], word_hide_BM.shape[1]), 1)

        image_loss = F.mse_loss(self.to_patch(patch_BMW).float(), take(self.encoder.patchify(image).float(), hide_BM))
        share_BM = real_BM / real_BM.sum(1, keepdim=True).clamp(min=1)  # every caption counts alike
        text_loss, accuracy = word_cross_entropy(
            guess_BMW, self.to_word.weight, take(text_BT, word_hide_BM), share_BM, self.to_word.bias
        )
        logs = {"image_loss": image_loss.detach(), "text_loss": text_loss.detach(), "masked_accuracy": accuracy}
        return image_loss + self.text_weight * text_loss, logs
