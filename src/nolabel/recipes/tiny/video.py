"""The video family; see the package."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON
from nolabel.views.video import Clips, FiveFrames, LightAndColorClip, PatchGraph, TwoDirections


def arrow_of_time(size: int) -> Recipe:
    """Sixteen frames a clip, both directions of 32 clips a step."""
    views = TwoDirections(size=size, scale=(0.6, 1.0), frames=15, stride=1)
    return Recipe("tiny_video", batch=32, minutes=5, fields={"views": views, "optim": MUON})


def rho_clips(size: int) -> Recipe:
    """Two clips of a second from anywhere in four, a short queue and an average net that moves faster."""
    views = Clips(size=size, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), blur=0.0, frames=8, stride=2)
    heads = {"temperature": 0.2, "hidden": 512, "queue": 2048, "momentum": (0.98, 1.0), "splits": 1}
    fields = {**heads, "views": views, "optim": MUON}
    return Recipe("tiny_video", batch=64, minutes=5, fields=fields, form={"frames": 64})


def shuffle_and_learn(size: int) -> Recipe:
    """The tiny image encoder on five frames, two or three of 16 apart; a hidden layer, as looks alone tell nothing in small
    worlds.
    """
    views = FiveFrames(size=size, scale=(0.6, 1.0), frames=5, stride=3, gap=(2, 3))
    return Recipe("tiny", batch=64, minutes=5, fields={"features": 128, "hidden": 256, "views": views, "optim": MUON})


def random_walk(size: int) -> Recipe:
    """Patches of a quarter of the side, half of it apart: 7 x 7 nodes at 64 px, for among few the way back is soon guessed. Toy
    world with two things and a camera that moves, one minute on one core: J of propagation 45.3, untrained 28.9; one seed.
    """
    views = PatchGraph(
        size=size, scale=(0.6, 1.0), frames=4, stride=2, patch=max(16, size // 4), step=max(8, size // 8)
    )
    optim = Optim("adam", lr=1e-3, weight_decay=0.0, scaled=False, warmup_epochs=0)
    fields = {"views": views, "optim": optim}
    return Recipe("tiny", batch=8, minutes=2.5, fields=fields, toyworld="std", form={"size": 64})


def video_colorization(size: int) -> Recipe:
    """Three reference frames, cells of two pixels."""
    views = LightAndColorClip(size=size, scale=(0.6, 1.0), frames=4, stride=2)
    optim = Optim("adam", lr=1e-3, weight_decay=0.0, scaled=False, warmup_epochs=0)
    return Recipe("tiny_fine", batch=4, minutes=2.5, fields={"views": views, "optim": optim})
