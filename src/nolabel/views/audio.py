"""Views of sound: crops in time, gain, noise, log-mel pictures in plain torch, masks of time and pitch.

Legend: B samples, S stored samples of a recording, N samples of a crop, M mels, F frames.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.types import Batch
from nolabel.views.draw import Pair

FLOOR = 1e-10
"""power below which all is silence: 100 dB under a full-scale tone"""


@dataclass(frozen=True)
class Wave:
    """A crop of the waveform under `x`, in time only unless told otherwise (van den Oord et al. 2018, section 3.1)."""

    reads: ClassVar[tuple[str, ...]] = ("audio",)
    rate: int = 16000
    """samples a second of the recordings as they are stored"""
    seconds: float = 1.28
    """length of the crop; shorter recordings are followed by silence"""
    level: float = 0.0
    """deviation that every crop is brought to, before noise and gain; 0 leaves crops as they are"""
    gain: Pair = (0.0, 0.0)
    """range of the change of loudness in dB"""
    noise: Pair = (0.0, 0.0)
    """range of the deviation of added white noise as a share of the crop's own"""

    @property
    def samples(self) -> int:
        """N."""
        return round(self.seconds * self.rate)

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`audio` int16 (B, S) -> `x` float32 (B, 1, N) in [-1, 1]."""
        return {**others(batch), "x": self.crop(batch["audio"], rng)[:, None]}

    def plain(self, batch: Batch) -> Batch:
        """`audio` int16 (B, S) -> `audio` float32 (B, 1, N), the middle."""
        return {"audio": self.middle(batch["audio"])[:, None]}

    def crop(self, audio_BS: Tensor, rng: torch.Generator, center_B: Tensor | None = None) -> Tensor:
        """A random crop, or the one around the shares `center` of the recordings: int16 (B, S) -> float32 (B, N)."""
        u = torch.rand(3, len(audio_BS), generator=rng, device=rng.device).to(audio_BS.device, non_blocking=True)
        most = max(0, audio_BS.shape[1] - self.samples)
        if center_B is None:
            start_B = u[0] * (most + 1)
        else:
            start_B = center_B * audio_BS.shape[1] - self.samples / 2
        x_BN = self.levelled(cut(audio_BS, start_B.long().clamp(0, most), self.samples))
        if any(self.noise):
            white_BN = torch.randn(x_BN.shape, generator=rng, device=rng.device).to(x_BN.device, non_blocking=True)
            share_B = self.noise[0] + (self.noise[1] - self.noise[0]) * u[1]
            x_BN = x_BN + (share_B * x_BN.std(1))[:, None] * white_BN
        if any(self.gain):
            decibel_B = self.gain[0] + (self.gain[1] - self.gain[0]) * u[2]
            x_BN = x_BN * torch.exp(decibel_B * (math.log(10) / 20))[:, None]
        return x_BN

    def middle(self, audio_BS: Tensor) -> Tensor:
        """The crop in the middle without augmentation (B, N)."""
        start = max(0, audio_BS.shape[1] - self.samples) // 2
        return self.levelled(cut(audio_BS, torch.full((len(audio_BS),), start, device=audio_BS.device), self.samples))

    def levelled(self, x_BN: Tensor) -> Tensor:
        """Crops (B, N) at `level`; silence stays silence."""
        return x_BN * (self.level / x_BN.std(1, keepdim=True).clamp_min(1e-4)) if self.level else x_BN


@dataclass(frozen=True)
class LogMel(Wave):
    """A crop as a picture of log power over mel bands and time under `x`. The defaults are Audio-MAE's."""

    seconds: float = 10.24
    mels: int = 128
    """M"""
    window: float = 0.025
    """seconds that a frame looks at"""
    hop: float = 0.01
    """seconds from frame to frame"""
    low: float = 20.0
    """lower edge of the lowest band in Hz"""
    high: float = 8000.0
    """upper edge of the highest band in Hz, at most half the rate"""
    hide_time: float = 0.0
    """largest share of the frames behind one mask (Park et al. 2019), filled with the mean"""
    hide_mels: float = 0.0
    """largest share of the bands behind one mask"""
    mean: float = -14.0
    """of log power"""
    std: float = 5.0
    """like `mean`"""

    @property
    def frames(self) -> int:
        """F."""
        return max(1, round(self.samples / round(self.hop * self.rate)))

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """`audio` int16 (B, S) -> `x` float32 (B, 1, M, F), normalised."""
        return {**others(batch), "x": self.picture(self.crop(batch["audio"], rng), rng)}

    def plain(self, batch: Batch) -> Batch:
        """`audio` int16 (B, S) -> `audio` float32 (B, 1, M, F) of the middle."""
        return {"audio": self.picture(self.middle(batch["audio"]))}

    def picture(self, wave_BN: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Normalised log-mel (B, 1, M, F), behind masks where there are any and a generator is given."""
        bands = self.mels, self.low, self.high
        x_BMF = (log_mel(wave_BN, self.rate, self.window, self.hop, *bands) - self.mean) / self.std
        if rng is not None and (self.hide_time or self.hide_mels):
            u = torch.rand(4, len(x_BMF), 1, generator=rng, device=rng.device).to(x_BMF.device, non_blocking=True)
            hidden_BM1 = stripe(x_BMF.shape[1], self.hide_mels * u[0], u[1])[:, :, None]
            hidden_B1F = stripe(x_BMF.shape[2], self.hide_time * u[2], u[3])[:, None]
            x_BMF = x_BMF.masked_fill(hidden_BM1 | hidden_B1F, 0.0)
        return x_BMF[:, None]


def cut(audio_BS: Tensor, start_B: Tensor, samples: int) -> Tensor:
    """Crops that begin at `start`: int16 (B, S) -> float32 (B, N) in [-1, 1), silence after the end."""
    if audio_BS.shape[1] < samples:
        audio_BS = F.pad(audio_BS, (0, samples - audio_BS.shape[1]))
    index_BN = start_B[:, None] + torch.arange(samples, device=audio_BS.device)
    return audio_BS.gather(1, index_BN).float() / 32768


def log_mel(
    wave_BN: Tensor, rate: int, window: float, hop: float, mels: int, low: float, high: float
) -> Tensor:  # fmt: skip
    """Log power of a short-time Fourier transform in mel bands: (B, N) -> (B, M, F), F = round(N / hop).

    Frames are centred at multiples of `hop` seconds, seen through a Hann window of `window` seconds, reflected at the
    borders. A full-scale tone that fills one band has log power about 0; `FLOOR` is the lowest value.
    """
    length, step = round(window * rate), round(hop * rate)
    size = 1 << (length - 1).bit_length()
    with torch.autocast(wave_BN.device.type, enabled=False):
        hann = torch.hann_window(length, device=wave_BN.device)
        spectrum_BKF = torch.stft(wave_BN.float(), size, step, length, hann, return_complex=True)
        power_BKF = torch.view_as_real(spectrum_BKF).square().sum(-1) * (2 / hann.sum()) ** 2
        bands_MK = mel_bands(rate, size, mels, low, high).to(wave_BN.device, non_blocking=True)
        frames = max(1, round(wave_BN.shape[1] / step))
        return (bands_MK @ power_BKF[..., :frames]).clamp_min(FLOOR).log()


@cache
def mel_bands(rate: int, size: int, mels: int, low: float, high: float) -> Tensor:
    """Triangles on the mel scale of HTK, each with the peak 1: (M, size / 2 + 1) from bins of frequency to bands.

    mel(f) = 2595 log10(1 + f / 700); the edges are equally far apart in mel from `low` to `high` or half the rate.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edge = torch.linspace(mel(low), mel(min(high, rate / 2)), mels + 2, dtype=torch.float64)
    edge = 700 * (10 ** (edge / 2595) - 1)
    bin_K = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rise = (bin_K - edge[:-2, None]) / (edge[1:-1] - edge[:-2])[:, None]
    fall = (edge[2:, None] - bin_K) / (edge[2:] - edge[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0).float()


def log_mix(x: Tensor, other: Tensor, share_B: Tensor) -> Tensor:
    """Two pictures of log power as one whose powers are mixed: log((1 - share) e^x + share e^other), x where it is 0."""
    share = share_B.view(-1, *[1] * (x.ndim - 1))
    return torch.logaddexp(x + torch.log1p(-share), other + share.log())


def resize_crop(x_B1MF: Tensor, u_B4: Tensor, canvas: Pair, scale: Pair) -> Tensor:
    """A random box of a canvas of zeros with the picture in its middle, at the size of the picture: (B, 1, M, F).

    u       uniforms: height and width of the box, then its place
    canvas  its height and width, in those of the picture
    scale   range of the height and of the width of the box, in those of the picture; at most the canvas

    The augmentation of BYOL-A (Niizumi et al., IJCNN 2021, section III-C): bicubic, corners on corners.
    """
    wheres = []
    for axis, wide in enumerate(canvas):
        count = x_B1MF.shape[2 + axis]
        most = int(count * wide)
        size_B = (count * (scale[0] + (scale[1] - scale[0]) * u_B4[:, axis])).floor().clamp(1, most)
        first_B = (u_B4[:, 2 + axis] * (most - size_B + 1)).floor() - (most - count) // 2
        step = torch.linspace(0, 1, count, device=x_B1MF.device)
        wheres.append((first_B[:, None] + step * (size_B - 1)[:, None]) * (2 / (count - 1)) - 1)
    y_BM, x_BF = wheres
    where_BMF2 = torch.stack(torch.broadcast_tensors(x_BF[:, None, :], y_BM[:, :, None]), -1)
    return F.grid_sample(x_B1MF, where_BMF2, "bicubic", "zeros", align_corners=True)


def stripe(length: int, width_B1: Tensor, place_B1: Tensor) -> Tensor:
    """True along a stripe that covers the share `width` of `length`, at the share `place` of what is left: (B, length)."""
    wide = (width_B1 * length).floor()
    first = (place_B1 * (length - wide + 1)).floor()
    at = torch.arange(length, device=wide.device)
    return (at >= first) & (at < first + wide)


def others(batch: Batch) -> Batch:
    """What is not sound."""
    return {key: value for key, value in batch.items() if key != "audio"}
