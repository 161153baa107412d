"""The two numbers every result is read against: the same encoder untrained, and no encoder at all.

A convolutional net at random weights is already a fair feature extractor, so only what lies above it was learned.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core.random import fold, generator, seed_all
from nolabel.core.types import UNKNOWN
from nolabel.evaluate.features import Split, Transform, to_device
from nolabel.networks.batchnorm import calibrate_batchnorm

_WEIGHTS, _BATCHES = 0x1417, 0xBA7C
"""purposes of the seeds"""


class RawInput(nn.Module):
    """No encoder: the plain view as one vector of at most about 3 `size`^2 values.

    image   (B, C, H, W) averaged down to at most `size` pixels a side
    video   (B, C, T, H, W) averaged down to at most 4 frames of half that side
    audio   the log-mel picture (B, 1, M, F) like an image; a wave (B, 1, S) as its log-power spectrogram
    points  (B, P, 3): the quantiles of x, y, z and of the distance from the middle, which no order of points changes
    text    (B, L): how often each token occurs, log(1 + count); ids above 3 `size`^2 share places
    """

    def __init__(self, modality: str, shape: tuple[int, ...], size: int = 32) -> None:
        """`shape` is that of one view, without the batch axis."""
        super().__init__()
        self.modality, self.size = modality, size
        example = torch.zeros(1, *shape, dtype=torch.int64 if modality == "text" else torch.float32)
        self.dim = self(example).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...) -> features (B, dim)."""
        if self.modality == "text":
            counts_BV = torch.zeros(len(x), 3 * self.size**2, device=x.device)
            known = (x > UNKNOWN).float()
            return counts_BV.scatter_add_(1, x % counts_BV.shape[1], known).log1p()
        if self.modality == "points":
            x_B4P = torch.cat((x, (x - x.mean(1, keepdim=True)).norm(dim=2, keepdim=True)), 2).transpose(1, 2)
            return F.adaptive_avg_pool1d(x_B4P.sort(dim=2).values, min(self.size, x.shape[1])).flatten(1)
        if self.modality == "audio" and x.ndim == 3:
            window = torch.hann_window(256, device=x.device)
            spectrum_BFT = torch.stft(x[:, 0].float(), 256, 128, window=window, return_complex=True).abs()
            x = spectrum_BFT.square().add(1e-6).log()[:, None]
        if x.ndim == 5:
            half = self.size // 2
            x = F.adaptive_avg_pool3d(x, (min(x.shape[2], 4), min(x.shape[3], half), min(x.shape[4], half)))
        elif x.ndim == 4 and max(x.shape[2:]) > self.size:
            x = F.adaptive_avg_pool2d(x, (min(x.shape[2], self.size), min(x.shape[3], self.size)))
        return x.flatten(1)


def random_init(
    make_encoder: Callable[[], nn.Module],
    split: Split,
    transform: Transform,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batches: int = 20,
    batch: int = 128,
) -> nn.Module:
    """The encoder at its random initial weights, with BatchNorm statistics from unlabelled plain views.

    Without that calibration the statistics are those of the constructor (mean 0, variance 1), the activations of a deep
    net drift, and the control would be weaker than an untrained net truly is. A function of `seed`.
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_all(fold(seed, _WEIGHTS))
        encoder = make_encoder().to(device)
    order = torch.randperm(len(split), generator=generator(fold(seed, _BATCHES)))

    def views() -> Iterator[Tensor]:
        # only batches of one size: a ragged last one would weigh its samples more
        for rows in order.split(min(batch, len(order)))[:batches]:
            if len(rows) == min(batch, len(order)):
                yield transform(to_device(split.take(rows), device))

    calibrate_batchnorm(encoder, views())
    return encoder.eval()
