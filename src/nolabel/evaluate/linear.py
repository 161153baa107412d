"""Linear probe: multinomial logistic regression on frozen features, its penalty chosen on a part of the training split.

    min over W, b of   mean_i CE(W x_i + b, y_i) + |W|^2 / (2 C N)

That is scikit-learn's LogisticRegression(C=C) divided by C N. The choice of C follows Kornblith, Shlens, Le. Do Better
ImageNet Models Transfer Better? CVPR 2019, appendix A. arXiv:1805.08974. Protocol:

1. of at most 20,000 training rows, drawn by the seed alone, 10 % become the validation part;
2. each C is solved on the other 90 %, from the smallest C up, each from the solution of the one before;
3. the C with the best validation accuracy (the smaller of equals) is solved again on all training rows;
4. the test split is looked at once.

Features are standardised by the statistics of the rows that are fitted. `c` is the penalty chosen; `at_edge` is 1 where
it is the first or last of the grid, so that a wider grid might do better.

Shapes: N rows, D features, R axes that they span, C classes (the penalty is lower-case c in code).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import UserError
from nolabel.core.random import fold, generator
from nolabel.evaluate.features import EvalData
from nolabel.evaluate.knn import top_accuracy

_VALIDATION = 0x11EA
"""purpose of the seed"""


@dataclass(frozen=True)
class Linear:
    """Accuracy in percent of a linear classifier: `top1`, and `top5` where there are more than 5 classes."""

    grid: tuple[float, ...] = tuple(10.0**x for x in range(-5, 3))
    """values of C, ascending: smaller is a stronger penalty"""
    validation: float = 0.1
    """part of the training rows that chooses C"""
    iterations: int = 100
    """most L-BFGS iterations for one C"""
    sweep_rows: int = 20_000
    """C is chosen on at most so many training rows; the last fit takes all of them"""

    raw_size: ClassVar[int] = 16
    """pixels a side of the raw-input line: 3,072 raw values would take longer than all the rest of an evaluation"""
    name: ClassVar[str] = "linear"
    version: ClassVar[int] = 2
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Fit on training features, measure on test features."""
        splits = (data.features(encoder, split).labelled() for split in ("train", "test"))
        (x_ND, y_N), (test_MD, y_M) = ((x.to(data.device), y.to(data.device)) for x, y in splits)
        return self.accuracy(x_ND, y_N, test_MD, y_M, data.seed)

    def accuracy(self, x_ND: Tensor, y_N: Tensor, test_MD: Tensor, y_M: Tensor, seed: int = 0) -> dict[str, float]:
        """Accuracies in percent on test rows, with the `c` that was chosen and whether it lies `at_edge`."""
        c, start = self.choose(x_ND, y_N, seed)
        probe = Probe.fit(x_ND, y_N, [c], self.iterations, start)[0]
        at_edge = float(len(self.grid) > 1 and c in (self.grid[0], self.grid[-1]))
        return {**top_accuracy(probe(test_MD), y_M), "c": c, "at_edge": at_edge}

    def choose(self, x_ND: Tensor, y_N: Tensor, seed: int = 0) -> tuple[float, "Probe"]:
        """The C with the best validation accuracy, and its solution on the other training rows."""
        if len(y_N) < 2:
            raise UserError(f"a linear probe needs at least 2 labelled training samples, not {len(y_N)}")
        order = torch.randperm(len(y_N), generator=generator(fold(seed, _VALIDATION))).to(y_N.device)
        order = order[: max(2, self.sweep_rows)]
        held_out = max(1, round(self.validation * len(order)))
        val, fit = order[:held_out], order[held_out:]
        probes = Probe.fit(x_ND[fit], y_N[fit], self.grid, self.iterations, classes=int(y_N.max()) + 1)
        scores = [top_accuracy(probe(x_ND[val]), y_N[val])["top1"] for probe in probes]
        best = max(range(len(scores)), key=scores.__getitem__)  # the first of equals
        return self.grid[best], probes[best]


@dataclass(frozen=True)
class Probe:
    """A linear classifier of raw features: logits = x W^T + b, standardisation included."""

    weight_CD: Tensor
    bias_C: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Logits (N, C)."""
        return F.linear(x_ND.float(), self.weight_CD, self.bias_C)

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        x_ND: Tensor,
        y_N: Tensor,
        grid: tuple[float, ...] | list[float],
        iterations: int = 100,
        start: "Probe | None" = None,
        classes: int | None = None,
    ) -> list["Probe"]:
        """Solve for each C of the grid in turn, starting from the last solution (the first from `start`, or zero).

        L-BFGS in the coordinates where the problem is closest to round: standardised features are turned to their
        principal axes, which leaves |W|^2 as it is, and the weight of axis d is measured in units of
        1 / sqrt(p lambda_d + 1 / (C N)), with lambda_d its variance and p the curvature of the softmax at zero. Of fewer
        samples than features only the axes that they span are taken: the best W lies there.
        """
        classes = classes or int(y_N.max()) + 1
        mean_D = x_ND.mean(0)
        std_D = x_ND.std(0, correction=0)
        # constant features say nothing, and their rounding must not be blown up
        scale_D = torch.where(std_D > 1e-6 * mean_D.abs().clamp(min=1e-6), 1 / std_D, 0)
        z_ND = (x_ND.float() - mean_D).mul_(scale_D)
        if len(z_ND) < z_ND.shape[1]:
            _, size_R, axes_RD = torch.linalg.svd(z_ND, full_matrices=False)
            lambda_R, axes_DR = size_R.square() / len(z_ND), axes_RD.T
        else:
            lambda_R, axes_DR = torch.linalg.eigh(z_ND.T @ z_ND / len(z_ND))
        z_NR = z_ND @ axes_DR
        curvature = (1 - 1 / classes) / classes

        if start is None:
            w_CR, b_C = z_NR.new_zeros(classes, z_NR.shape[1]), z_NR.new_zeros(classes)
        else:
            w_CR = torch.where(scale_D > 0, start.weight_CD * std_D, 0) @ axes_DR
            b_C = start.bias_C + start.weight_CD @ mean_D
        probes = []
        for c in grid:
            penalty = 1 / (c * len(y_N))
            unit_R = (curvature * lambda_R.clamp(min=0) + penalty).rsqrt()
            w_CR, b_C = _solve(z_NR, y_N, w_CR, b_C, penalty, unit_R, curvature**-0.5, iterations)
            weight_CD = w_CR @ axes_DR.T * scale_D
            probes.append(cls(weight_CD, b_C - weight_CD @ mean_D))
        return probes


def _solve(
    z_ND: Tensor, y_N: Tensor, w_CD: Tensor, b_C: Tensor, penalty: float, unit_D: Tensor, unit: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """L-BFGS with strong Wolfe line search over u = (W / unit_D, b / unit)."""
    u = torch.cat((w_CD / unit_D, b_C[:, None] / unit), 1).requires_grad_()
    solver = torch.optim.LBFGS(
        [u], max_iter=iterations, max_eval=2 * iterations, history_size=20,
        tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe",
    )  # fmt: skip
    n, minus_N1 = len(y_N), -torch.ones_like(y_N[:, None], dtype=z_ND.dtype)

    def closure() -> Tensor:
        w_CD, b_C = u[:, :-1] * unit_D, u[:, -1] * unit
        log_p_NC = torch.addmm(b_C, z_ND, w_CD.T).log_softmax(1)
        # float64 sums: the line search compares losses that differ by less than float32 resolves
        loss = 0.5 * penalty * w_CD.double().square().sum() - log_p_NC.gather(1, y_N[:, None]).double().mean()
        # d loss / d logits by hand: automatic differentiation would keep three more (N, C) arrays
        g_NC = log_p_NC.exp_().scatter_add_(1, y_N[:, None], minus_N1).div_(n)
        grad_CD = (g_NC.T @ z_ND).add_(w_CD, alpha=penalty).mul_(unit_D)
        u.grad = torch.cat((grad_CD, g_NC.sum(0)[:, None] * unit), 1)
        return loss

    solver.step(closure)
    u = u.detach()
    return u[:, :-1] * unit_D, u[:, -1] * unit
