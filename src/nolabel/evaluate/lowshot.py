"""Low-shot: a linear probe on frozen features that sees a few labels, over several draws of which ones.

A draw is balanced: of every class the same number of samples, or the same part. For equal seeds a smaller subset lies
in a larger one. The penalty is chosen inside the subset by cross-validation, the test split is looked at once per draw,
and the result is the mean and the standard deviation over the draws, all of which count. Three draws per size is the
custom of Assran et al. (MSN, ECCV 2022, section 5). arXiv:2204.07141
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from nolabel.core.random import fold, generator
from nolabel.evaluate.features import EvalData
from nolabel.evaluate.knn import top_accuracy
from nolabel.evaluate.linear import Linear, Probe

_DRAW = 0x105
"""purpose of the seed"""


@dataclass(frozen=True)
class LowShot:
    """Accuracy in percent of a linear classifier of few labels: `top1`, its mean over draws, and `top1_std`."""

    labels: float = 0.01
    """per class: below 1 this part of its samples (at least one), from 1 on this number of samples"""
    draws: int = 3
    folds: int = 4
    """of the cross-validation, at most the labels per class; a single label per class takes the middle of the grid"""
    linear: Linear = field(default_factory=Linear)

    name: ClassVar[str] = "low-shot"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top1_std")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Draw from the training features, measure on all test features."""
        splits = (data.features(encoder, split).labelled() for split in ("train", "test"))
        (x_ND, y_N), (test_MD, y_M) = ((x.to(data.device), y.to(data.device)) for x, y in splits)
        return self.accuracy(x_ND, y_N, test_MD, y_M, data.seed)

    def accuracy(self, x_ND: Tensor, y_N: Tensor, test_MD: Tensor, y_M: Tensor, seed: int = 0) -> dict[str, float]:
        """Mean and standard deviation over the draws."""
        scores = []
        for draw in range(self.draws):
            rows, folds = balanced(y_N, self.labels, self.folds, fold(seed, _DRAW, draw))
            x, y, classes = x_ND[rows], y_N[rows], int(y_N.max()) + 1
            c = self._choose(x, y, folds, classes)
            probe = Probe.fit(x, y, [c], self.linear.iterations, classes=classes)[0]
            scores.append(top_accuracy(probe(test_MD), y_M)["top1"])
        top1 = torch.tensor(scores, dtype=torch.double)
        return {"top1": top1.mean().item(), "top1_std": top1.std(correction=int(self.draws > 1)).item()}

    def _choose(self, x_ND: Tensor, y_N: Tensor, fold_N: Tensor, classes: int) -> float:
        grid = self.linear.grid
        folds = int(fold_N.max()) + 1
        if folds < 2:
            return grid[len(grid) // 2]
        right = torch.zeros(len(grid), dtype=torch.double)
        for held_out in range(folds):
            fit, val = fold_N != held_out, fold_N == held_out
            probes = Probe.fit(x_ND[fit], y_N[fit], grid, self.linear.iterations, classes=classes)
            right += torch.tensor([(probe(x_ND[val]).argmax(1) == y_N[val]).sum().item() for probe in probes])
        return grid[int(right.argmax())]  # the first of equals


def balanced(y_N: Tensor, labels: float, folds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (M,) of a subset with `labels` of each class, and the fold (M,) of each, equally many of every class."""
    rows, parts = [], []
    for c in y_N.unique().tolist():
        own = (y_N == c).nonzero()[:, 0]
        count = max(1, round(labels * len(own))) if labels < 1 else min(int(labels), len(own))
        order = torch.randperm(len(own), generator=generator(fold(seed, c))).to(own.device)
        rows.append(own[order[:count]])
        parts.append(torch.arange(count, device=own.device) % folds)
    return torch.cat(rows), torch.cat(parts)
