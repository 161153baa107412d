"""The audio family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON
from nolabel.views.audio import LogMel, Wave
from nolabel.views.sounding import SoundingClip


def cpc_speech(size: int) -> Recipe:
    """32 moments of 20 ms at 8 kHz, six of them told ahead among those of the same recording."""
    return Recipe(
        "tiny_wave",
        batch=8,
        minutes=2.5,
        fields={
            "hidden": 96,
            "ahead": 6,
            "negatives": "sequence",
            "views": Wave(rate=8000, seconds=0.64, level=1.0),
            "optim": Optim("adamw", lr=1e-3, weight_decay=0.01, scaled=False, warmup_epochs=0.05),
        },
        toyworld="speech",
        form={"seconds": 1.0},
    )


def avid(size: int) -> Recipe:
    """Four frames of a second of video; as much sound, up to 0.3 s early or late: time alone tells no clip.

    Of the toy world 1,500 clips, for the rows of a bank are as old as an epoch is long, in which materials can be seen: with the
    usual faint textures not even labels teach a tiny net to see them. They last three seconds: of half as much little more than
    looks is learned (1,200 steps, linear probe of video 80.8 and, CMA left out, 81.9; so 89.8 and 90.5; 8 agreed, seed 0). With
    AdamW one seed of three leaves the plateau at the start in two minutes. Banks of so few clips are told apart late: agreement
    is looked for in the last fifth. A sixth of all clips are of one material, so many are to agree, or noise rows undo it.
    """
    views = SoundingClip(
        size=size,
        scale=(0.5, 1.0),
        jitter=(0.2, 0.2, 0.2, 0.0),
        frames=4,
        stride=4,
        sound=LogMel(rate=8000, seconds=0.96, mels=32, low=60, high=4000, gain=(-6.0, 6.0), mean=-16.0, std=3.1),
        shift=0.3,
    )
    fields = {
        "negatives": 256, "instance": 0.8, "agreeing": 200, "within": 8, "refresh": 2, "hidden": 256, "out": 64, "norm": True,
        "views": views, "optim": MUON,
    }  # fmt: skip
    nets = {"video": "tiny_video", "audio": "tiny_mel"}
    return Recipe(nets, batch=64, minutes=5, fields=fields, toyworld="1500:textured", form={"frames": 48})


def byol_a(size: int) -> Recipe:
    """32 bands of sounds at 8 kHz; narrow heads. Of the toy world speech: a crop moves the pitch, which tells a material."""
    views = LogMel(rate=8000, seconds=0.96, mels=32, window=0.064, low=60, high=4000, mean=-16.0, std=3.1)
    fields = {"hidden": 512, "out": 128, "momentum": 0.98, "queue": 1024, "views": views, "optim": MUON}
    return Recipe("tiny_mel", batch=128, minutes=2.5, fields=fields, toyworld="speech", form={"seconds": 1.0})
