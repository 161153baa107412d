r"""BEiT: tell which discrete visual token stands behind each hidden patch, as BERT does with words.

Bao, Dong, Piao, Wei, "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, arXiv:2106.08254.

    stage 1:  min |decode(code(x)) - x|^2 + 1/4 |z(x) - sg e|^2     over the tokenizer
    stage 2:  L = mean over hidden places n of  -log p(code_n(x) | x with mask tokens)     over the encoder       (eq. 3)

Shapes: B images, L patches, M hidden, D features, P values a patch, K codes. Uniform logits cost log K; the loss has to
fall below `code_entropy`, which needs no image. Differs: the tokenizer is trained here, in a first stage on the same
images, as a VQ-VAE of the ViT's patch size, so both see the same pixels (the paper takes DALL-E's dVAE at half the
size); all images hide equally many patches. Positions, LayerScale and stochastic depth are those of the encoder, whose
feature is the mean over patches.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.networks.mask_token import MaskToken
from nolabel.networks.tokenizer import Tokenizer, entropy, usage_entropy
from nolabel.views.image import OneView
from nolabel.views.masks import block_mask, mask_indices, take


class BEiT(Method):
    stages: ClassVar[int] = 2
    """the tokenizer, then the encoder"""
    shares: ClassVar[tuple[float, ...]] = (0.15, 0.85)
    """the tokenizer is soon good enough"""
    hide: float = 0.4
    """share of the patches that is hidden"""
    min_block: int = 16
    """smallest area of a hidden block, in patches"""
    codes: int = 8192
    """K"""
    width: int = 256
    """of the tokenizer"""
    depth: int = 2
    """convolutions of the tokenizer, each way"""
    in_use: float = 0.4
    """share of the codes that must be in use, as exp(entropy) / K, before the encoder learns them; 0: never mind"""
    views: OneView = OneView(
        size=224, scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.0), jitter_p=1.0, interpolation="bicubic"
    )
    optim: Optim = Optim("adamw", lr=1.875e-4, weight_decay=0.05, warmup_epochs=10, final_lr=1e-5, clip=3.0)

    def build(self, data, tokens):
        self.tokenizer = Tokenizer(tokens.patch_dim, tokens.grid, self.codes, self.width, self.depth)
        tokens.pool = "mean"
        self.encoder, self.mask = tokens, MaskToken(tokens.dim)
        self.head = nn.Linear(tokens.dim, self.codes)

    def groups(self, t):
        trained = [self.tokenizer] if t.stage == 0 else [self.encoder, self.mask, self.head]
        return {"all": [p for module in trained for p in module.parameters()]}

    def begin_stage(self, t, data):
        used = entropy(self.tokenizer.count).exp().item() if t.stage else self.codes
        if used < self.in_use * self.codes:
            raise UserError(
                f"the tokenizer has only {used:.0f} of {self.codes} codes in use: train longer, take fewer --codes, "
                "or go on all the same by --in-use 0"
            )

    def forward(self, views, t):
        x = views["x"]
        x_BLP = self.encoder.patchify(x)
        if t.stage == 0:
            return self.tokenizer(x_BLP)
        logits_BMK, hide_BM = self.guess(x)
        code_BM = take(self.tokenizer.numbers(x_BLP), hide_BM)
        loss = F.cross_entropy(logits_BMK.flatten(0, 1), code_BM.flatten())
        accuracy = (logits_BMK.argmax(-1) == code_BM).float().mean()
        return loss, {"code_accuracy": accuracy, "code_entropy": usage_entropy(code_BM, self.codes)}

    def guess(self, x):
        """Logits of the codes of hidden patches, and which those are."""
        hidden = round(self.hide * self.encoder.length)
        mask_Bhw = block_mask(len(x), self.encoder.grid, hidden, self.min_block, exact=True, device=x.device)
        _, hide_BM = mask_indices(mask_Bhw, hidden)
        h_BLD = self.encoder.encode(self.mask(self.encoder, x, mask_Bhw))[:, 1:]
        return self.head(take(h_BLD, hide_BM)).float(), hide_BM

    def show(self, views, t):
        x = views["x"]
        logits_BMK, hide_BM = self.guess(x)
        code_BL = self.tokenizer.numbers(self.encoder.patchify(x))
        guess_BL = code_BL.scatter(1, hide_BM, logits_BMK.argmax(-1))
        said, guessed = (self.tokenizer.decode(self.tokenizer.book[y_BL]).float() for y_BL in (code_BL, guess_BL))
        return {"input": x, "codes": self.encoder.unpatchify(said), "guessed": self.encoder.unpatchify(guessed)}
