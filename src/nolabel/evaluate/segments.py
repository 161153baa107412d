"""Segments: a linear probe of single points of a cloud, or moments of a sound, that sees the segmentation of few samples,
over several draws of which ones.

The features are those that the encoder has of each point (`encoder.points`) or of each moment (`encoder.frames`, or tokens of
a spectrogram averaged over pitch); the label is the part that a point belongs to, or the phone that is said. The penalty is
chosen as for the linear probe. The control without an encoder sees coordinates, or the spectrum of a moment.

Shapes: B samples, E elements (points, moments), D features.
"""

from dataclasses import dataclass, field
from statistics import mean, median_low, stdev
from typing import Any, ClassVar

import torch
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.random import fold, generator
from nolabel.evaluate.baselines import RawInput
from nolabel.evaluate.features import EvalData, autocast, frozen, to_device
from nolabel.evaluate.linear import Linear, Probe

_SHOTS, _TEST = 0x5E6, 0x5E7
"""purposes of the seeds"""


@dataclass(frozen=True)
class Segments:
    """`miou`, the mean over segments of intersection over union, its standard deviation over draws `miou_std`, and `top1`, all
    in percent of elements of test samples; means over the draws.
    """

    shots: int = 20
    """training samples whose segmentation is seen"""
    draws: int = 3
    """of these samples: twenty may hold little of a rare segment"""
    test: int = 400
    """test samples, at most"""
    linear: Linear = field(default_factory=lambda: Linear(grid=(1e-3, 1e-2, 1e-1, 1.0)))

    name: ClassVar[str] = "segments"
    version: ClassVar[int] = 2
    metrics: ClassVar[tuple[str, ...]] = ("miou", "top1", "miou_std")
    labelled: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("segmentation",)
    """columns beside those that the encoder takes"""

    def __call__(self, encoder: Any, data: EvalData) -> dict[str, float]:
        """Fit on elements of training samples, measure on those of test samples."""
        test_MD, y_M = self._elements(encoder, data, "test", self.test, fold(data.seed, _TEST))
        mious, top1s, penalties = [], [], []
        for draw in range(self.draws):
            x_ND, y_N = self._elements(encoder, data, "train", self.shots, fold(data.seed, _SHOTS, draw))
            c, start = self.linear.choose(x_ND, y_N, data.seed)
            guess_M = Probe.fit(x_ND, y_N, [c], self.linear.iterations, start)[0](test_MD).argmax(1)
            mious.append(mean_iou(guess_M, y_M))
            top1s.append(100 * (guess_M == y_M).double().mean().item())
            penalties.append(c)
        return {
            "miou": mean(mious), "top1": mean(top1s), "miou_std": stdev(mious) if self.draws > 1 else 0.0,
            "c": median_low(penalties),
        }  # fmt: skip

    def _elements(self, encoder: Any, data: EvalData, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Features (N, D) and segments (N,) of all elements of some samples."""
        source, device = data.splits[split], torch.device(data.device)
        rows = torch.randperm(len(source), generator=generator(seed))[:count]
        x, y = [], []
        with frozen(encoder):
            for part in rows.split(64):
                stored = to_device(source.take(part), device)
                view = data.transform(stored)
                with autocast(device, data.precision):
                    h_BED = elements(encoder, view, data.modality).float()
                x.append(h_BED.flatten(0, 1))
                y.append(aligned(stored["segmentation"], h_BED.shape[1], data.modality, data.share).flatten())
        return torch.cat(x), torch.cat(y).long()


def elements(encoder: Any, x: Tensor, modality: str) -> Tensor:
    """Features of the elements of each sample (B, E, D). Raises UserError where the encoder has none."""
    if isinstance(encoder, RawInput):
        if modality == "points":
            return x
        if x.ndim == 4:
            return x[:, 0].transpose(1, 2)
        spectrum_BKF = torch.stft(x[:, 0], 256, 160, window=torch.hann_window(256), return_complex=True).abs()
        return (spectrum_BKF.square() + 1e-6).log().transpose(1, 2)
    name = {"points": "points", "audio": "frames"}.get(modality)
    if name and hasattr(encoder, name):
        return getattr(encoder, name)(x)  # type: ignore[no-any-return]
    if modality == "audio" and len(getattr(encoder, "grid", ())) == 2:
        tokens_BLD = encoder.encode(encoder.embed(x))[:, 1:]
        return tokens_BLD.unflatten(1, tuple(encoder.grid)).mean(1)  # type: ignore[no-any-return]
    raise UserError(f"the encoder has no features of single elements of {modality}")


def aligned(segment_BS: Tensor, count: int, modality: str, share: float = 1.0) -> Tensor:
    """The segments (B, E) of the elements of a view, from those (B, S) of a stored sample.

    A view of a cloud takes evenly spread points; one of a sound the `share` in the middle.
    """
    stored = segment_BS.shape[1]
    if modality == "points":
        index_E = torch.arange(count) * stored // count
    else:
        at_E = 0.5 - share / 2 + share * (torch.arange(count) + 0.5) / count
        index_E = (at_E * stored).long().clamp(0, stored - 1)
    return segment_BS[:, index_E.to(segment_BS.device)]


def mean_iou(guess_M: Tensor, y_M: Tensor) -> float:
    """Mean over the segments that occur in y of intersection over union, in percent."""
    count = int(torch.maximum(guess_M.max(), y_M.max())) + 1
    table = torch.bincount(y_M * count + guess_M, minlength=count * count).view(count, count).double()
    hit, there, said = table.diagonal(), table.sum(1), table.sum(0)
    known = there > 0
    return 100 * (hit / (there + said - hit))[known].mean().item()
