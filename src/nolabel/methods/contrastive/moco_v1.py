r"""MoCo v1: MoCo with a linear head, a sharper softmax, views without blur, and steps for a cosine.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv:1911.05722.

    L = that of moco_v2                                                                                        (eq. 1)

Shapes: those of moco_v2, of which every field stays one. What version 2 changed is `nolabel study moco_ladder`.
"""

from nolabel.core import Optim, Preset
from nolabel.views.image import TwoViews

MOCO_V1 = Preset(
    "moco_v2",
    "image",
    {
        "temperature": 0.07,
        "hidden": 0,
        "views": TwoViews(scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur=(0.0, 0.0)),
        "optim": Optim("sgd", lr=0.03, weight_decay=1e-4, warmup_epochs=0, drops=(0.6, 0.8)),
    },
)
