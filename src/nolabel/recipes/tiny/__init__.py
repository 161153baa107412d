"""Minutes on two CPU cores: the tiny encoders on toyworld, CIFAR-10 or a folder of photographs.

nolabel train METHOD                                        toyworld
nolabel train METHOD --data cifar10/ --minutes 10           CIFAR-10
"""

from dataclasses import replace

from nolabel.core import Optim
from nolabel.views.image import MultiCrop, OneView, TwoViews

MUON = Optim("muon", lr=1.2e-2, weight_decay=0.05, scaled=False, warmup_epochs=0.2)
"""what the tiny convolutional encoder trains with: SimCLR on CIFAR-10, three minutes on one core, batch 256, 20-NN 63.3 %
(with rates of 3e-3, 6e-3: 59.8, 62.5; AdamW at 3e-3: 55.6), one seed"""
SLOW = replace(MUON, lr=6e-3)
"""for methods whose targets come from earlier weights"""
TOKENS = Optim("muon", lr=5e-3, weight_decay=0.05, betas=(0.9, 0.95), scaled=False, warmup_epochs=0.3)
"""what the tiny encoder of tokens trains with"""
ADAMW = Optim("adamw", lr=3e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2)


FEW = "4000"
"""images of the toy world for methods that look at all of them once an epoch: minutes hold many epochs of few images"""
COLORS = (0.4, 0.4, 0.4, 0.2)
"""jitter of the tiny joint-embedding views: half the papers' strength, but all of the hue, or those without negatives learn
colour alone (toy world, one minute on one core, 20-NN of SimCLR and BYOL with hue 0.1: 53, 19; 0.2: 56, 30; CIFAR-10: 55.5, 44.2;
54.7, 43.1; one seed)"""
HUES = (*COLORS[:3], 0.4)
"""the papers' hue, for methods with a bank or a queue of few images"""
STRONG = (0.8, 0.8, 0.8, 0.4)
"""the papers' jitter in full, for methods that would find clusters or words of colours (toy world of 4,000, one minute on one
core, 20-NN with hue 0.2 and with this: SeLA 24, 36; DeepCluster v2 26, 33; local aggregation 39, 47; one seed)"""


def smaller(size: int) -> int:
    """The side to train at: three quarters of the one that is looked at, by FixRes 1.6 times as many views a second and
    a better k-NN (AdamW, 32 px: 53.3 %, 24 px: 55.6 %).
    """
    return max(16, size * 3 // 4 // 4 * 4)


def two_views(size: int, hue: float = COLORS[3]) -> TwoViews:
    """Weaker colours and larger crops than the papers': a small net and few epochs cannot use the hardest views."""
    jitter = (*COLORS[:3], hue)
    return TwoViews(size=smaller(size), test_size=size, scale=(0.2, 1.0), strength=1.0, jitter=jitter, blur=(0.0, 0.0))


def multi_crop(size: int, train: int | None = None, locals: int = 2) -> MultiCrop:
    """Two crops of the image, of side `train` or `size`, and a few of half its side, with the colours of `two_views`."""
    return MultiCrop(
        size=train or size, test_size=size, scale=(0.2, 1.0), local_size=size // 2, local_scale=(0.1, 0.4), locals=locals,
        jitter=COLORS, blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip


def one_view(size: int) -> OneView:
    """Crop and flip only."""
    return OneView(size=size, scale=(0.3, 1.0))
