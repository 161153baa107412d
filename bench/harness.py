"""Interleaved timing of one case against its peers: medians of rates, medians of per-round ratios, peak memory."""

import gc
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def installed(package: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(package) is not None


def compare(
    bench: str,
    case: str,
    ours: Callable[[], object],
    peers: dict[str, Callable[[], object]],
    *,
    work: float,
    unit: str,
    rounds: int = 5,
    warmup: int = 1,
) -> list[Row]:
    """Time `ours` and every peer in turn, `rounds` times, forward then backward order.

    Each call does `work` units (images, views, rows). Rates are medians in `unit` per second; `ratio` is the median over
    rounds of (our rate / the peer's rate), so above 1 ours is faster. Without peers one row with `peer_name` "-".
    """
    runs: dict[str, Callable[[], object]] = {"ours": ours, **peers}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for name, call in runs.items():
        for _ in range(warmup):
            call()
    order = list(runs)
    for i in range(rounds):
        for name in order if i % 2 == 0 else reversed(order):
            gc.collect()
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    rate = {name: work / statistics.median(s) for name, s in seconds.items()}
    row = {"bench": bench, "case": case, "ours": rate["ours"], "unit": unit + "/s", "rounds": rounds}
    if not peers:
        return [{**row, "peer": None, "peer_name": "-", "ratio": None}]
    return [
        {
            **row,
            "peer": rate[name],
            "peer_name": name,
            "ratio": statistics.median(p / o for o, p in zip(seconds["ours"], seconds[name])),
        }
        for name in peers
    ]


def peak_mb() -> float:
    """Largest resident size of this process so far, in MiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
