"""How fast the toy world is made: no peer has one, so that rates stand alone."""

from functools import partial

import numpy as np
import torch

from bench.harness import Row, compare
from nolabel.data.toyworld import images, video
from nolabel.data.toyworld.video import EXTRAS


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Frames a second on one core; the CPU makes the world whatever the device."""
    torch.set_num_threads(1)
    clips, stills, frames = np.arange(32), np.arange(512), 16
    found = []
    for profile in ("std", "hard"):
        cases = {
            "frames, 64 px, RGB and instances": (partial(video.render, clips, frames, 64, profile), 32 * frames),
            "frames, 64 px, all outputs and sound": (
                partial(video.render, clips, frames, 64, profile, extras=EXTRAS), 32 * frames),
            "images, 32 px, with masks": (partial(images.render, stills, 32, profile), 512),
        }  # fmt: skip
        for case, (make, work) in cases.items():
            rounds = 3 if quick else 7
            found += compare("toyworld", f"{profile}: {case}", make, {}, work=work, unit="frames", rounds=rounds)
    return found


if __name__ == "__main__":
    for row in rows():
        print(f"{row['case']:50s} {row['ours']:10,.0f} {row['unit']}")
