"""Watching for collapse while the run goes: spread and rank of the kept encoder's features, online k-NN, the alarm."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nolabel.core import kept_by_modality
from nolabel.engine.observe import Observer, Record
from nolabel.evaluate.features import frozen
from nolabel.losses.geometry import feature_std, rankme

if TYPE_CHECKING:
    from nolabel.engine.run import Run


COLLAPSED = 0.15
"""`std` of embeddings, mean over the steps between two log lines. Tiny recipes on the toy world, 200 steps: BYOL 0.83 or
more, without predictor 0.10; SimSiam 0.76, without stop-gradient 0.02; VICReg 0.26, without variance term 0.01"""


CHEAP = 3.0
"""seconds that the first k-NN may take unasked"""

LOOKS = 2
"""in a row that must show a collapse: a language model that has learned only which words are frequent has one, too"""


class Monitor(Observer):
    """Features of fixed samples, every `log_every` steps: `feature_std` (1 healthy, 0 collapsed) and `effective_rank`.

    `inputs` are ready for the encoder (N, ...), by modality as `views.plain` gives them; where the method keeps several
    encoders, the numbers of those after the first end in the modality, `feature_std_audio`. `knn(encoder)`, which costs as
    much as `knn_looks` looks at features, is an accuracy in percent of the first, asked for as often as it stays below
    `share` of the time; so are the features at log lines in between, which slow steps have.
    The alarm rings when the features have shrunk to a point or a line: std below 0.005, rank of what differs from their
    mean below 1.5, or both below a quarter of what they were at the first look; a large mean alone is no collapse, nets
    that reconstruct have one. Embeddings collapse long before the encoder below them does, so it also rings when the `std`
    that a method logs of them is below `COLLAPSED`. Either must hold for `LOOKS` log lines.
    """

    def __init__(
        self,
        inputs: Mapping[str, Tensor],
        *,
        knn: Callable[[nn.Module], float] | None = None,
        knn_looks: float = 20.0,
        share: float = 0.03,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.inputs, self.knn, self.share, self.tell = inputs, knn, share, tell
        self.first: dict[str, tuple[float, float, float]] = {}
        self.low, self.rang = 0, False
        self.knn_looks = knn_looks
        self.free_at, self.looks_at = math.nan, 0.0

    def features(self, run: "Run") -> dict[str, Tensor]:
        """Features (N, D) in float32 of what the method keeps; every module's mode is as before after it."""
        found = {}
        for name, net in kept_by_modality(run.method, self.inputs).items():
            with frozen(net), torch.autocast(run.device.type, run.autocast, enabled=run.autocast is not None):
                parts = self.inputs[name].split(256)
                found[name] = torch.cat([net(x.to(run.device)).float() for x in parts])
        return found

    def on_start(self, run: "Run") -> None:
        """Look once before the first step: the alarm compares with it."""
        if run.total_step == 0:
            self.first = self.look(run)

    def look(self, run: "Run") -> dict[str, tuple[float, float, float]]:
        """Standard deviation of the normalised features times sqrt(D), their effective rank as they are, and centred."""
        start = time.monotonic()
        seen = {
            name: (float(feature_std(z_ND)), float(rankme(z_ND)), float(rankme(z_ND - z_ND.mean(0))))
            for name, z_ND in self.features(run).items()
        }
        now = time.monotonic()
        self.looks_at = now + (now - start) / self.share
        if math.isnan(
            self.free_at
        ):  # the first k-NN comes at once where it costs little, else when it may cost so much
            self.free_at = now + max(0.0, self.knn_looks * (now - start) - CHEAP) / self.share
        return seen

    def on_log(self, run: "Run", record: Record) -> None:
        """Add `feature_std`, `effective_rank` and `knn` in percent, each when it is its time."""
        now, regular = time.monotonic(), run.step % run.settings.log_every == 0 or run.fraction >= 1.0
        if not regular and now < self.looks_at:
            return
        seen = self.look(run)
        self.first = self.first or seen
        embedded = min((float(v) for k, v in record.items() if k.split("/")[-1] == "std"), default=1.0)
        what = f"std {embedded:.3f} of the embeddings (1 is healthy); the heads give" if embedded < COLLAPSED else ""
        for i, (name, (std, rank, spread)) in enumerate(seen.items()):
            end = f"_{name}" if i else ""
            record |= {f"feature_std{end}": std, f"effective_rank{end}": rank}
            shrunk = std < 0.25 * self.first[name][0] and spread < max(2.0, 0.25 * self.first[name][2])
            if std < 0.005 or spread < 1.5 or shrunk:
                net = f"the encoder of {name}" if len(seen) > 1 else "the encoder"
                what = what or f"feature std {std:.3f} (1 is healthy), centred rank {spread:.1f}; {net} gives"
        self.low = self.low + 1 if what else 0
        if self.low >= LOOKS and not self.rang:
            self.rang = True
            record["alarm"] = 1
            self.tell(f"collapse alarm at step {run.total_step}: {what} nearly the same vector for every sample")
        now = time.monotonic()
        if self.knn is not None and (now >= self.free_at or run.fraction >= 1.0):
            record["knn"] = self.knn(next(iter(kept_by_modality(run.method, self.inputs).values())))
            self.free_at = time.monotonic() + (time.monotonic() - now) / self.share
