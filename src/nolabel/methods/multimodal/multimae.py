r"""MultiMAE: see a few tokens of colour, depth and class maps of one scene, and paint all three whole.

Bachmann, Mizrahi, Atanov, Zamir, "MultiMAE: Multi-modal Multi-task Masked Autoencoders", ECCV 2022, arXiv:2204.01678.

    L = MSE(colour) + MSE(standardised colour) + L1(depth) + CE(class), each over what is hidden of it   (section 3.4)
    shares of the visible tokens ~ Dirichlet(1, 1, 1), their number fixed                                  (section 3.3)

Shapes: B scenes, N tokens of each of the three layers, K visible of all 3 N, D features, W width of the decoders, P pixels
a side of a token. Each target has a decoder whose queries, all its places, read the visible tokens of all layers and the
summary token. Differs: counts follow the drawn shares to within rounding of a common scale; positions of decoders are
those of the grid. What is kept is the encoder, as it sees colours; its feature is the mean over patches.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.encoders.vit import fixed_positions
from nolabel.losses.weighted import masked_mean
from nolabel.networks.cross import LayerDecoder
from nolabel.networks.transformer import sincos_positions
from nolabel.views.layers import Layers, squares
from nolabel.views.masks import dirichlet_mask, index_mask, take


class MultiMAE(Method):
    visible: float = 1 / 6
    """K / 3 N, share of the tokens of all layers that the encoder sees"""
    classes: int = 133
    """of the class maps"""
    class_width: int = 64
    """of the embedding of a class"""
    width: int = 256
    """W"""
    depth: int = 2
    """blocks of a decoder"""
    heads: int = 8
    """of a decoder"""
    views: Layers = Layers()
    optim: Optim = Optim("adamw", lr=1e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40)

    def build(self, data, tokens):
        fixed_positions(tokens)
        tokens.pool = "mean"
        self.encoder, self.cells = tokens, self.views.size // tokens.grid[0] // self.views.cell
        pixels = tokens.patch_dim // data.shapes["image"][-1]
        self.from_depth = nn.Linear(pixels, tokens.dim)
        self.class_table = nn.Embedding(self.classes, self.class_width)
        self.from_class = nn.Linear(self.cells**2 * self.class_width, tokens.dim)
        outs = {"colour": tokens.patch_dim, "standard": tokens.patch_dim, "depth": pixels}
        outs["class"] = self.cells**2 * self.classes
        shape = self.width, self.depth, self.heads, tokens.grid
        self.decoders = nn.ModuleDict({name: LayerDecoder(tokens.dim, *shape, out) for name, out in outs.items()})
        self.register_buffer("at_ND", sincos_positions(tokens.dim, tokens.grid), persistent=False)

    def forward(self, views, t):
        colour_BNP = self.encoder.patchify(views["image"])
        depth_BNP = self.encoder.patchify(views["depth"])
        class_BNC = squares(views["segmentation"], self.cells)
        shown_BNCE = self.class_table(class_BNC.clamp(min=0)) * (class_BNC >= 0)[..., None]
        tokens_B3ND = torch.cat(
            (
                self.encoder.embed(views["image"]),
                self.from_depth(depth_BNP) + self.at_ND,
                self.from_class(shown_BNCE.flatten(2)) + self.at_ND,
            ),
            1,
        )
        B, N = colour_BNP.shape[:2]
        keep_BK, hide_BM = dirichlet_mask(B, (N,) * 3, round(3 * N * self.visible), device=colour_BNP.device)
        h_BSD = self.encoder.encode(take(tokens_B3ND, keep_BK))
        hidden = index_mask(hide_BM, 3 * N)[..., None].chunk(3, 1)
        guess = {
            name: self.decoders[name](h_BSD, keep_BK, hide_BM, layer).float()
            for name, layer in (("colour", 0), ("standard", 0), ("depth", 1), ("class", 2))
        }
        var_BN1, mean_BN1 = torch.var_mean(colour_BNP.float(), -1, keepdim=True)
        standard_BNP = (colour_BNP.float() - mean_BN1) / (var_BN1 + 1e-6).sqrt()
        scores = guess["class"].unflatten(-1, (-1, self.classes)).movedim(-1, 1)
        losses = {
            "colour": masked_mean((guess["colour"] - colour_BNP).square(), hidden[0]),
            "standard": masked_mean((guess["standard"] - standard_BNP).square(), hidden[0]),
            "depth": masked_mean((guess["depth"] - depth_BNP).abs(), hidden[1]),
            "class": masked_mean(
                F.cross_entropy(scores, class_BNC, ignore_index=-1, reduction="none"), hidden[2] & (class_BNC >= 0)
            ),
        }
        return sum(losses.values()), {f"{name}_loss": loss.detach() for name, loss in losses.items()}
