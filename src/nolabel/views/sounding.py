"""Views of a clip together with its sound.

Video and sound of a sample cover the same time, so a share of the one is the same share of the other.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from nolabel.core.types import Batch
from nolabel.views.audio import LogMel
from nolabel.views.draw import Jitter, Pair
from nolabel.views.video import OneClip, random_start

TWO_SECONDS = LogMel(rate=24000, seconds=2.0, window=0.02, mels=128, high=12000.0, gain=(-0.9, 0.9))


@dataclass(frozen=True)
class SoundingClip(OneClip):
    """A clip under `video` and the sound around it under `audio`. The defaults are AVID's (Morgado et al. 2021)."""

    reads: ClassVar[tuple[str, ...]] = ("video", "audio")
    scale: Pair = (0.08, 1.0)
    jitter: Jitter = (0.4, 0.4, 0.4, 0.2)
    jitter_p: float = 1.0
    frames: int = 8
    stride: int = 1
    sound: LogMel = TWO_SECONDS
    """how the sound is seen"""
    shift: float = 0.0
    """largest distance in seconds of the middle of the sound from that of the clip, either way"""

    @property
    def rate(self) -> int:
        """Samples a second of the sound."""
        return self.sound.rate

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return self.sound.seconds

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:  # type: ignore[override]
        """`video` uint8 (B, T, H, W, C), `audio` int16 (B, S) -> `video` (B, C, F, size, size), `audio` (B, 1, M, F)."""
        video, audio = batch["video"], batch["audio"]
        start_B, u_B = random_start(video, rng), random_start(video, rng)
        middle_B = self.when(video, start_B).float().mean(1).add(0.5) / video.shape[1]
        middle_B = middle_B + (2 * u_B - 1) * self.shift * self.sound.rate / audio.shape[1]
        heard = self.sound.picture(self.sound.crop(audio, rng, middle_B), rng)
        return {**batch, "video": self.clip(video, rng, start_B), "audio": heard}

    def plain(self, batch: Batch) -> Batch:
        """The middle of both without augmentation, under the same names and shapes."""
        return {"video": self.middle(batch["video"]), **self.sound.plain(batch)}
