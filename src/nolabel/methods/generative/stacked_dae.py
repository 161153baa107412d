r"""Stacked denoising autoencoders: layer by layer, each learns to rebuild its clean input from a corrupted one.

Vincent, Larochelle, Lajoie, Bengio, Manzagol, "Stacked Denoising Autoencoders: Learning Useful Representations in a Deep
Network with a Local Denoising Criterion", JMLR 11, 2010.

    h_0 = x,   h_k = s(W_k h_{k-1} + b_k)
    stage k:  L = mean_b sum_j l( h_{k-1,j},  g_k( f_k( h~_{k-1} ) )_j ),   h~ ~ q(h~ | h_{k-1})        (section 3.1, fig. 3)

Shapes: B images as vectors of pixels in [0, 1]; h_k values of layer k. Layers below k stand still, so h_{k-1} is clean; the
decoders g_k are thrown away. With level 0 these are stacked autoencoders. Needs the encoder `dense`.
"""

from typing import Literal

from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.losses.generative import emphasised
from nolabel.views.corrupt import corrupt
from nolabel.views.image import OneView


class StackedDAE(Method):
    layers: int = 3
    """how many, each trained in a stage of its own"""
    noise: Literal["gauss", "mask", "salt"] = "mask"
    """additive normal, set to zero, or salt and pepper"""
    level: float = 0.25
    """nu, share of the values that is hit; of gauss the standard deviation"""
    alpha: float = 1.0
    """weight of values that were hit"""
    beta: float = 1.0
    """weight of the others"""
    views: OneView = OneView(
        size=28, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )  # fmt: skip
    optim: Optim = Optim("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, warmup_epochs=0, scaled=False)

    @property
    def stages(self):
        return self.layers

    def build(self, data, image):
        if not hasattr(image, "upto") or len(image.layers) < self.layers:
            raise UserError(f"stacked_dae trains {self.layers} layers of an encoder made of them: take --encoder dense")
        self.encoder = image
        self.decoders = nn.ModuleList(nn.Linear(image.widths[k + 1], image.widths[k]) for k in range(self.layers))

    def groups(self, t):
        return {"all": [*self.encoder.layers[t.stage].parameters(), *self.decoders[t.stage].parameters()]}

    def forward(self, views, t):
        below = self.encoder.upto(views["x"], t.stage).detach().float()
        noisy, hit = corrupt(below, self.noise, self.level)
        code = self.encoder.layers[t.stage](noisy).sigmoid()
        guess = self.decoders[t.stage](code)
        loss, inside, outside = emphasised(guess, below, hit, self.alpha, self.beta, cross_entropy=True)
        logs = {"hit": inside / below.shape[1], "not_hit": outside / below.shape[1], "activation": code.detach().mean()}
        return loss, logs

    def show(self, views, t):
        code = self.encoder.upto(views["x"], t.stage + 1).float()
        for decoder in reversed(self.decoders[: t.stage + 1]):
            code = decoder(code).sigmoid()
        return {"input": views["x"], "rebuilt": code.view_as(views["x"])}
