r"""VideoMAE: MAE on tubes of video, nine tenths of the places hidden, the same ones at all times.

Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022, arXiv:2203.12602.

    L = that of mae,   target = (x - mean) / deviation of each tube and channel                            (section 3.2)

One mask for all times, since a tube is copied too easily from the same place a moment before (section 3.3). Shapes: those
of mae; tokens are tubes of two frames. Differs: positions are sines and cosines of time, row and column, not of one
running number; the target's deviation is sqrt(var + 1e-6), not sqrt(var) + 1e-6.
"""

from nolabel.core import Optim, Preset
from nolabel.views.video import OneClip

VIDEOMAE = Preset(
    "mae",
    "video",
    {
        "hide": 0.9,
        "mask": "tube",
        "by_channel": True,
        "width": 384,
        "depth": 4,
        "heads": 6,
        "views": OneClip(
            size=224, scale=(0.5, 1.0), frames=16
        ),  # every fourth of 30 frames a second, as the 8 that are stored
        "optim": Optim("adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40),
    },
)
