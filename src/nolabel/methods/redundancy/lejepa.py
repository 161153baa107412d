r"""LeJEPA: views predict the mean of the global ones, and embeddings are to be an isotropic Gaussian; no teacher.

Balestriero, LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics", 2025,
arXiv:2511.08544.

    L = (1 - lambda) mean_{b, v} |z_bv - mu_b|^2 / P + lambda SIGReg(z),   mu_b = mean of the global views       (eq. 8)
    SIGReg = mean over views and S directions a of  N int |mean_b exp(i t a.z_b) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

Shapes: V = 2 global and some local views, B images, D features, P embedding. The gradient flows through mu. Directions
are fresh each step and alike on all ranks. SIGReg is 1.05 for Gaussian embeddings and 0.402 N for zeros.
"""

import torch

from nolabel.core import Method, Optim
from nolabel.core.random import fold, generator
from nolabel.losses.redundancy import directions, sigreg
from nolabel.networks.mlp import mlp
from nolabel.views.image import MultiCrop


class LeJEPA(Method):
    weight: float = 0.05
    """lambda"""
    hidden: int = 2048
    """width of the projector's hidden layers"""
    out: int = 64
    """P"""
    slices: int = 1024
    """S"""
    knots: int = 17
    """points of the integral on [0, 3]"""
    views: MultiCrop = MultiCrop(
        size=224, scale=(0.3, 1.0), local_size=98, local_scale=(0.05, 0.3), locals=6,
        jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.5, 0.5, 0.5), solarize=(0.2, 0.2, 0.2),
    )  # fmt: skip
    optim: Optim = Optim("adamw", lr=5e-4, weight_decay=0.05, scaled=False, warmup_epochs=10, final_lr=5e-7)

    def build(self, data, image):
        self.encoder = image
        self.projector = mlp(image.dim, self.hidden, self.hidden, self.out)

    def forward(self, views, t):
        crops = [views[k] for k in ("global", "local") if k in views]
        h_ND = torch.cat([self.encoder(crop_VBCHW.flatten(0, 1)) for crop_VBCHW in crops])
        z_VBP = self.projector(h_ND).float().unflatten(0, (-1, crops[0].shape[1]))
        spread = (z_VBP - z_VBP[: len(crops[0])].mean(0)).square().mean()
        rng = generator(fold(0, t.stage, t.step), z_VBP.device)
        normal = sigreg(z_VBP, directions(self.out, self.slices, rng), self.knots)
        loss = (1 - self.weight) * spread + self.weight * normal
        return loss, {"prediction": spread.detach(), "sigreg": normal.detach()}
