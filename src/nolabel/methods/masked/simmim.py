r"""SimMIM: hide large cells with a mask token inside the encoder and regress their pixels with one linear layer.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022,
arXiv:2111.09886.

    L = 1 / (M P)  sum over hidden tokens and their values of  |head(encoder(x with mask tokens)) - x|      (section 3)

Shapes: B images, L tokens, M hidden, D features, P values a token. The head is the paper's 1x1 convolution and pixel
shuffle, which on the patches of a ViT is a linear layer. The feature is the mean over patches. Differs: plain ViTs only,
with positions of their own instead of the shared relative bias. Stochastic depth (0.1) is an option of the encoder.
"""

from torch import nn

from nolabel.core import Method, Optim
from nolabel.networks.mask_token import MaskToken
from nolabel.views.image import OneView
from nolabel.views.masks import cell_mask


class SimMIM(Method):
    hide: float = 0.6
    """share of the cells that is hidden, rounded up"""
    cell: int = 2
    """side of a cell in tokens: 32 px of patches of 16; single tokens could be copied from their neighbours"""
    views: OneView = OneView(size=224, scale=(0.67, 1.0))
    optim: Optim = Optim("adamw", lr=5e-5, weight_decay=0.05, warmup_epochs=10, drops=(0.875,), clip=5.0)

    def build(self, data, tokens):
        tokens.pool = "mean"
        self.encoder, self.mask = tokens, MaskToken(tokens.dim)
        self.head = nn.Linear(tokens.dim, tokens.patch_dim)

    def forward(self, views, t):
        guess_BLP, mask_BL = self.guess(views["x"])
        error_BL = (guess_BLP.float() - self.encoder.patchify(views["x"]).float()).abs().mean(-1)
        return error_BL.mul(mask_BL).sum() / mask_BL.sum(), {}

    def guess(self, x):
        """Pixels of every token, and which tokens the encoder did not see."""
        mask_BL = cell_mask(len(x), self.encoder.grid, self.cell, self.hide, device=x.device).flatten(1)
        return self.head(self.encoder.encode(self.mask(self.encoder, x, mask_BL))[:, 1:]), mask_BL

    def show(self, views, t):
        x = views["x"]
        guess_BLP, mask_BL = self.guess(x)
        x_BLP, hidden_BL1 = self.encoder.patchify(x), mask_BL[..., None]
        painted = x_BLP.where(~hidden_BL1, guess_BLP.to(x_BLP.dtype))
        rows = {"input": x_BLP, "visible": x_BLP * ~hidden_BL1, "painted": painted}
        return {name: self.encoder.unpatchify(x_BLP) for name, x_BLP in rows.items()}
