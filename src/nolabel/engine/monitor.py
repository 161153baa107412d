"""Watching for collapse while the run goes: spread and rank of the kept encoder's features, online k-NN, the alarm."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nolabel.engine.observe import Observer, Record
from nolabel.evaluate.features import frozen
from nolabel.losses.geometry import feature_std, rankme

if TYPE_CHECKING:
    from nolabel.engine.run import Run


class Monitor(Observer):
    """Features of fixed samples, every log line: `feature_std` (1 healthy, 0 collapsed) and `effective_rank`.

    `inputs` are ready for the encoder, (N, ...). `knn(encoder)` is an accuracy in percent, asked for as often as it
    stays below `share` of the time.
    The alarm rings when the features have shrunk to a point or a line: std below 0.05 or rank below 1.5, or both
    below a quarter of what they were at the first look.
    """

    def __init__(
        self,
        inputs: Tensor,
        *,
        knn: Callable[[nn.Module], float] | None = None,
        share: float = 0.03,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.inputs, self.knn, self.share, self.tell = inputs, knn, share, tell
        self.first: tuple[float, float] | None = None
        self.rang = False
        self.free_at = 0.0

    def features(self, run: "Run") -> Tensor:
        """Features (N, D) in float32 of the module that the method keeps, the first one where it keeps several.

        Every module's mode is as before after it.
        """
        net = run.method.kept()
        net = next(iter(net.values())) if isinstance(net, nn.ModuleDict) else net
        with frozen(net), torch.autocast(run.device.type, run.autocast, enabled=run.autocast is not None):
            return torch.cat([net(x.to(run.device)).float() for x in self.inputs.split(256)])

    def on_start(self, run: "Run") -> None:
        """Look once before the first step: the alarm compares with it."""
        if run.total_step == 0:
            self.first = self.look(run)

    def look(self, run: "Run") -> tuple[float, float]:
        """Standard deviation of the normalised features times sqrt(D), and their effective rank."""
        z_ND = self.features(run)
        return float(feature_std(z_ND)), float(rankme(z_ND))

    def on_log(self, run: "Run", record: Record) -> None:
        """Add `feature_std`, `effective_rank` and, when it is its time, `knn` in percent."""
        std, rank = self.look(run)
        record |= {"feature_std": std, "effective_rank": rank}
        self.first = self.first or (std, rank)
        shrunk = std < 0.25 * self.first[0] and rank < max(2.0, 0.25 * self.first[1])
        if (std < 0.05 or rank < 1.5 or shrunk) and not self.rang:
            self.rang = True
            record["alarm"] = 1
            self.tell(
                f"collapse alarm at step {run.total_step}: feature std {std:.3f} (1 is healthy), effective rank "
                f"{rank:.1f}; the encoder gives nearly the same vector for every sample"
            )
        now = time.monotonic()
        if self.knn is not None and (now >= self.free_at or run.fraction >= 1.0):
            record["knn"] = self.knn(run.method.kept())
            self.free_at = time.monotonic() + (time.monotonic() - now) / self.share
