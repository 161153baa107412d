"""Propagation: the objects of the first frame are followed through a video by the likeness of features alone.

    y_t(p) = sum over the k most alike q of softmax_q( f_t(p) . f_s(q) / tau ) y_s(q),   s the first and the last n frames,
    q within a radius of p

Jabri, Owens, Efros, Space-Time Correspondence as a Contrastive Random Walk, NeurIPS 2020, section 4.1. arXiv:2006.14613.
Labels stay soft from frame to frame. J is intersection over union, F the agreement of outlines within a tolerance, both
averaged over frames after the first and objects in it (Perazzi et al., DAVIS, CVPR 2016). Copying the first frame is the
trivial answer: its `copy_first` stands in the settings. The control without an encoder compares colours.

Shapes: B clips, T frames, O objects and ground, h x w cells of a map, S side of the masks.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.random import fold, generator
from nolabel.evaluate.baselines import RawInput
from nolabel.evaluate.features import EvalData, autocast, frozen, to_device

_CLIPS = 0x9209
"""purpose of the seed"""


@dataclass(frozen=True)
class Propagation:
    """`j`, `f` and their mean `score_jf`, in percent."""

    clips: int = 100
    """of the test split, at most"""
    cells: int = 16
    """the deepest map of the encoder with so many cells a side is compared, or its finest"""
    context: int = 4
    """frames before this one that are asked, beside the first"""
    topk: int = 10
    radius: int = 5
    """cells, of places that are asked in other frames than the first"""
    temperature: float = 0.05
    tolerance: float = 0.02
    """of outlines, as a share of the diagonal"""

    name: ClassVar[str] = "propagation"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("score_jf", "j", "f")
    labelled: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("segmentation",)
    """columns beside those that the encoder takes"""

    def __call__(self, encoder: Any, data: EvalData) -> dict[str, float]:
        """On clips of the test split, frame by frame. Raises UserError for encoders without maps of an image."""
        if not isinstance(encoder, RawInput) and not hasattr(encoder, "maps"):
            raise UserError("the encoder has no maps of a frame")
        split, device = data.splits["test"], torch.device(data.device)
        rows = torch.randperm(len(split), generator=generator(fold(data.seed, _CLIPS)))[: self.clips]
        found: list[Tensor] = []
        with frozen(encoder):
            for part in rows.split(8):
                stored = to_device(split.take(part), device)
                video_BTHWC, mask_BTSS = stored["video"], stored["segmentation"]
                frames = [
                    data.transform({**stored, "video": video_BTHWC[:, t : t + 1]}) for t in range(video_BTHWC.shape[1])
                ]
                with autocast(device, data.precision):
                    maps_BTDhw = torch.stack([self._map(encoder, x) for x in frames], 1).float()
                for maps_TDhw, mask_TSS in zip(maps_BTDhw, mask_BTSS.long()):
                    found += self._clip(maps_TDhw, mask_TSS)
        if not found:
            raise UserError("no object is in the first frame of any test clip")
        j, f, copied = torch.stack(found).mean(0).mul(100).tolist()
        return {"score_jf": (j + f) / 2, "j": j, "f": f, "copy_first": copied}

    def _map(self, encoder: Any, x_BCSS: Tensor) -> Tensor:
        """Features of the cells of a frame (B, D, h, w)."""
        if isinstance(encoder, RawInput):
            return F.adaptive_avg_pool2d(x_BCSS, min(self.cells, x_BCSS.shape[-1]))
        if x_BCSS.ndim != 4:
            raise UserError("the encoder takes clips, not single frames")
        maps = encoder.maps(x_BCSS)[1]
        able = [m for m in maps if min(m.shape[-2:]) >= self.cells]
        return able[-1] if able else max(maps, key=lambda m: m.shape[-1])  # type: ignore[no-any-return]

    def _clip(self, maps_TDhw: Tensor, mask_TSS: Tensor) -> list[Tensor]:
        """J, F and the J of copying the first frame, for every object of a clip."""
        ids = [i for i in mask_TSS[0].unique().tolist() if i not in (0, 255)]
        if not ids:
            return []
        h, w = maps_TDhw.shape[2:]
        first_OSS = torch.stack([mask_TSS[0] == i for i in (*[-1], *ids)]).float()
        first_OSS[0] = 1 - first_OSS[1:].sum(0)
        labels = propagate(
            maps_TDhw, F.adaptive_avg_pool2d(first_OSS, (h, w)), self.topk, self.radius, self.context, self.temperature
        )
        size = mask_TSS.shape[-2:]
        guess_TSS = F.interpolate(labels, size, mode="bilinear", align_corners=False).argmax(1)
        out = []
        for place, i in enumerate(ids, 1):
            truth, guess = mask_TSS[1:] == i, guess_TSS[1:] == place
            still = (mask_TSS[:1] == i).expand_as(truth)
            out.append(
                torch.stack((jaccard(guess, truth), outlines(guess, truth, self.tolerance), jaccard(still, truth)))
            )
        return out


def propagate(
    maps_TDhw: Tensor, first_Ohw: Tensor, topk: int = 10, radius: int = 5, context: int = 4, temperature: float = 0.05
) -> Tensor:
    """Labels (T, O, h, w) of all frames from those of the first, by normalised features (T, D, h, w)."""
    count, _, h, w = maps_TDhw.shape
    f_TPD = F.normalize(maps_TDhw.flatten(2).transpose(1, 2), dim=2)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place_P2 = torch.stack((y, x), -1).view(-1, 2).to(maps_TDhw.device)
    far_PP = (place_P2[:, None] - place_P2).abs().amax(2) > radius
    labels = [first_Ohw.flatten(1).T]  # (P, O)
    for t in range(1, count):
        asked = [0, *range(max(1, t - context), t)]
        s_PQ = torch.cat(
            [(f_TPD[t] @ f_TPD[s].T).masked_fill(far_PP if s else torch.zeros_like(far_PP), -torch.inf) for s in asked],
            1,
        )
        best_Pk, index_Pk = s_PQ.topk(min(topk, s_PQ.shape[1]), 1)
        weight_Pk = (best_Pk / temperature).softmax(1)
        known_QO = torch.cat([labels[s] for s in asked])
        labels.append((weight_Pk[..., None] * known_QO[index_Pk]).sum(1))
    return torch.stack(labels).transpose(1, 2).unflatten(2, (h, w))


def jaccard(guess_TSS: Tensor, truth_TSS: Tensor) -> Tensor:
    """Intersection over union, the mean over frames; 1 where both are empty."""
    both, either = (guess_TSS & truth_TSS).sum((1, 2)), (guess_TSS | truth_TSS).sum((1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).mean()


def outlines(guess_TSS: Tensor, truth_TSS: Tensor, tolerance: float = 0.02) -> Tensor:
    """F of outlines: harmonic mean of the shares of each outline within `tolerance` diagonals of the other; over frames."""
    height, width = guess_TSS.shape[1:]
    reach = max(1, round(tolerance * (height**2 + width**2) ** 0.5))
    a, b = _outline(guess_TSS), _outline(truth_TSS)
    wide_a, wide_b = (F.max_pool2d(o[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0 for o in (a, b))
    precision = (a & wide_b).sum((1, 2)) / a.sum((1, 2)).clamp(min=1)
    recall = (b & wide_a).sum((1, 2)) / b.sum((1, 2)).clamp(min=1)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    empty_a, empty_b = a.sum((1, 2)) == 0, b.sum((1, 2)) == 0
    return torch.where(empty_a & empty_b, 1.0, torch.where(empty_a | empty_b, 0.0, score)).mean()


def _outline(mask_TSS: Tensor) -> Tensor:
    """Places of a mask next to places outside it."""
    inside = -F.max_pool2d(-mask_TSS[:, None].float(), 3, 1, 1)[:, 0]
    return mask_TSS & (inside < 1)
