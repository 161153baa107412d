"""Minutes on two CPU cores: the tiny encoders on toyworld, CIFAR-10 or a folder of photographs.

nolabel train METHOD                                        toyworld
nolabel train METHOD --data cifar10/ --minutes 10           CIFAR-10
"""

from nolabel.core import Optim
from nolabel.views.image import MultiCrop, OneView, TwoViews

ADAMW = Optim("adamw", lr=3e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2)
"""what the tiny convolutional encoder trains with"""

ADAMW_TOKENS = Optim("adamw", lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.95), scaled=False, warmup_epochs=0.5)
"""what the tiny encoder of tokens trains with"""


def two_views(size: int) -> TwoViews:
    """Weaker colours and larger crops than the papers': a small net and few epochs cannot use the hardest views."""
    return TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))


def multi_crop(size: int, locals: int = 2) -> MultiCrop:
    """Two crops of the image and a few of half its side, with the colours of `two_views`."""
    return MultiCrop(
        size=size, scale=(0.3, 1.0), local_size=size // 2, local_scale=(0.1, 0.4), locals=locals,
        jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0), interpolation="bilinear",
    )  # fmt: skip


def one_view(size: int) -> OneView:
    """Crop and flip only."""
    return OneView(size=size, scale=(0.3, 1.0))
