"""The two numbers every result is read against: the same encoder untrained, and no encoder at all.

A convolutional net at random weights is already a fair feature extractor, so only what lies above it was learned.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core.random import fold, generator, seed_all
from nolabel.encoders.weights import calibrate_batchnorm
from nolabel.evaluate.features import Split, Transform, to_device

_WEIGHTS, _BATCHES = 0x1417, 0xBA7C
"""purposes of the seeds"""


class RawPixels(nn.Module):
    """No encoder: the view itself, averaged down to at most `size` pixels a side and flattened.

    x (B, C, H, W) -> (B, dim); inputs that are not images are flattened as they are.
    """

    def __init__(self, shape: tuple[int, ...], size: int = 32) -> None:
        """`shape` is that of one view: (C, H, W) for images."""
        super().__init__()
        self.size = size
        self.dim = self(torch.zeros(1, *shape)).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...) -> features (B, dim)."""
        if x.ndim == 4 and max(x.shape[2:]) > self.size:
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
