r"""SEER: SwAV in the wild, on a RegNet and images that nobody chose, each seen once.

Goyal, Caron, Lefaudeux, Xu, Wang, Pai, Singh, Liptchinsky, Misra, Joulin, Bojanowski, "Self-supervised Pretraining of
Visual Features in the Wild", 2021, arXiv:2103.01988.

    L = that of swav                                                                                        (section 3)

Shapes: those of swav. A wider head without batch norm, 16,000 prototypes, ten rounds of Sinkhorn, four small crops; what
lasts some time at first is told in steps, for one epoch is the whole stream. Meant for shards of uncurated images
(`--data "shards-{00000..99999}.tar" --cache never`); on ImageNet it is no SEER.
"""

from dataclasses import replace

from nolabel.core import Optim, Preset
from nolabel.views.crops import SWAV_VIEWS

SEER = Preset(
    "swav",
    "image",
    {
        "prototypes": 16000,
        "hidden": 8192,
        "layers": 3,
        "out": 256,
        "batchnorm": False,
        "iterations": 10,
        "freeze_last": 0.0,
        "freeze_steps": 313,
        "views": replace(SWAV_VIEWS, size=160, test_size=224, locals=4),
        "optim": Optim("lars", lr=0.3, weight_decay=1e-5, warmup_epochs=0, warmup_steps=8000, final_lr=0.0096),
    },
)
