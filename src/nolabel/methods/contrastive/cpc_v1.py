r"""CPC v1 on images: CPC with one direction, batch norm, and smaller patches of which 60 of 64 pixels are seen.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748.

    L = that of cpc_v2, downwards only                                                                 (eq. 4, section 3.2)

Shapes: those of cpc_v2, of which every field stays one: each step from version 1 to 2 is a switch. Images are grey always,
also where the net is used. Sound: `cpc_speech`. Differs: the 60 pixels are enlarged to 64 instead of padded; the context
net is that of version 2.
"""

from nolabel.core import Optim, Preset
from nolabel.views.parts import Patches

CPC_V1 = Preset(
    "cpc_v2",
    "image",
    {
        "directions": 1,
        "layer_norm": False,
        "target": 0,
        "scale": 1.0,
        "views": Patches(
            size=256, patch=64, stride=32, gray=1.0, drop_color=0.0, patch_scale=(0.88, 0.88), patch_ratio=(1.0, 1.0),
            patch_flip=0.0, patch_jitter=(0.0, 0.0, 0.0, 0.0), patch_gray=0.0,
        ),
        "optim": Optim("adam", lr=2e-4, weight_decay=0.0, scaled=False, warmup_epochs=0),
    },
)  # fmt: skip
