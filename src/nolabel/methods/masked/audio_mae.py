r"""Audio-MAE: MAE on patches of a log-mel spectrogram.

Huang, Xu, Li, Baevski, Auli, Galuba, Metze, Feichtenhofer, "Masked Autoencoders that Listen", NeurIPS 2022,
arXiv:2207.06405.

    L = that of mae                                                                                        (section 3)

Neighbours in pitch and time belong together: the decoder attends within windows of 4 x 4 tokens, every second block's
shifted by two in time (section 3); `--window 0 --depth 8` is its global one. Shapes: those of mae; tokens are patches of
16 bands and 16 frames. Differs: log-mel is that of `views.audio`, not that of Kaldi; the summary token is the mean of the
others, and the decoder does without.
"""

from nolabel.core import Optim, Preset
from nolabel.views.audio import LogMel

AUDIO_MAE = Preset(
    "mae",
    "audio",
    {
        "hide": 0.8,
        "width": 512,
        "depth": 16,
        "heads": 16,
        "window": 4,
        "views": LogMel(rate=16000, seconds=10.24, mels=128, gain=(-3.0, 3.0)),
        "optim": Optim("adamw", lr=2e-4, weight_decay=1e-4, betas=(0.9, 0.95), warmup_epochs=3),
    },
)
