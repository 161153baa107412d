"""Minutes on two CPU cores: the tiny encoders on toyworld, CIFAR-10 or a folder of photographs.

nolabel train METHOD                                        toyworld
nolabel train METHOD --data cifar10/ --minutes 10           CIFAR-10
"""

from nolabel.core import Optim
from nolabel.views.image import TwoViews

ADAMW = Optim("adamw", lr=3e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2)
"""what the tiny convolutional encoder trains with"""


def two_views(size: int) -> TwoViews:
    """Weaker colours and larger crops than the papers': a small net and few epochs cannot use the hardest views."""
    return TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
