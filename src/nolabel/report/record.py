"""What a run left in its folder, read forgivingly: a report of a broken run is worth most."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

_HIGHER = re.compile(
    r"top|acc|r\d+$|score|[jf]$|m?ap\b|m?iou|auc|f1|r2|nmi|ari|precision|recall|psnr|ssim|score|pearson|spearman"
)
_LOWER = re.compile(r"error|loss|rmse|mse|mae|abs_?rel|perplexity|distance|nll|[ew]er\b")


@dataclass(frozen=True)
class Record:
    """The settings, log lines and results of one run, and a sentence for every file that could not be read."""

    settings: Row
    metrics: list[Row]
    results: list[Row]
    troubles: list[str]


@dataclass(frozen=True)
class Score:
    """One measured quantity over seeds, beside the same quantity of an untrained encoder and of the raw input."""

    key: tuple[str, ...]
    metric: str
    values: tuple[float, ...]
    random_init: float | None
    raw_input: float | None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return sum(self.values) / len(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds (n - 1), None of a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 for what only describes the features (their std, their rank)."""
        name = self.metric.lower()
        return -1 if _LOWER.match(name) else int(_HIGHER.match(name) is not None)

    def beats(self, other: float | None) -> bool:
        """Whether the mean is better than a baseline; True where there is none or no better."""
        return other is None or self.sign == 0 or self.sign * (self.mean - other) > 0


def read_record(folder: Path) -> Record:
    """Read run.json, metrics.jsonl and results.json; missing and broken ones are named, not raised."""
    troubles: list[str] = []
    settings = _read_json(folder / "run.json", troubles)
    results = _read_json(folder / "results.json", troubles)
    rows = results if isinstance(results, list) else []
    return Record(
        _raised(settings) if isinstance(settings, dict) else {},
        read_metrics(folder / "metrics.jsonl"),
        [r for r in rows if isinstance(r, dict) and _real(r.get("value")) is not None],
        troubles,
    )


def _raised(settings: Row) -> Row:
    """The groups "settings" and "about" of run.json dissolved: their entries stand beside the others."""
    groups = [settings[k] for k in ("settings", "about") if isinstance(settings.get(k), dict)]
    rest = {k: v for k, v in settings.items() if not any(v is g for g in groups)}
    return {**rest, **{k: v for g in groups for k, v in g.items()}}


def _read_json(path: Path, troubles: list[str]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        troubles.append(f"{path.name} could not be read: {error}")
        return None


def read_metrics(path: Path) -> list[Row]:
    """The lines of the log with their place "x" on one axis over all stages, oldest first.

    A torn line is skipped. Lines that a resumed run wrote again replace the ones from before the interruption.
    """
    if not path.is_file():
        return []
    kept: list[Row] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or _real(row.get("step")) is None:
            continue
        while kept and _when(kept[-1]) > _when(row):
            kept.pop()
        kept.append(row)
    offset, previous = 0.0, None
    for row in kept:
        if previous is not None and row.get("stage") != previous.get("stage") and row["step"] <= previous["step"]:
            offset = previous["x"]  # the stage restarted the count
        row["x"] = offset + row["step"]
        previous = row
    return kept


def _when(row: Row) -> tuple[float, float]:
    return _real(row.get("stage")) or 0.0, row["step"]


def _real(value: Any) -> float | None:
    """A number as float, anything else None. NaN is a number here."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def names(metrics: Iterable[Row]) -> list[str]:
    """The logged scalars in order of appearance."""
    counters = {"x", "step", "steps", "epoch", "stage", "time", "seconds", "memory"}
    seen = dict.fromkeys(k for row in metrics for k, v in row.items() if _real(v) is not None)
    return [k for k in seen if k not in counters]


def series(metrics: Iterable[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Places (n,) and values (n,) of one scalar; null was not finite when it was written."""
    rows = [r for r in metrics if name in r and (r[name] is None or _real(r[name]) is not None)]
    return np.array([r["x"] for r in rows], float), np.array([_real(r[name]) for r in rows], float)


def scores(
    results: Iterable[Row], by: Sequence[str] = ("protocol", "data", "split", "metric", "modality")
) -> list[Score]:
    """Results that agree in the columns `by` as one score over their seeds, in order of appearance."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in results:
        groups.setdefault(tuple(str(row.get(c) or "") for c in by), []).append(row)
    return [
        Score(
            key=key,
            metric=str(rows[0].get("metric") or ""),
            values=tuple(float(r["value"]) for r in rows),
            random_init=_mean(r.get("random_init") for r in rows),
            raw_input=_mean(r.get("raw_input") for r in rows),
        )
        for key, rows in groups.items()
    ]


def _mean(values: Iterable[Any]) -> float | None:
    known = [v for v in map(_real, values) if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None
