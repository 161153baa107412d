"""Interleaved timing of one case against its peers: medians of rates, medians of per-round ratios; the table of results."""

import gc
import importlib.util
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).parent.parent
PACKAGES = ("nolabel", "torch", "torchvision", "timm", "numba", "lightly", "lightning", "kornia", "faiss-cpu", "numpy")


def installed(package: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(package) is not None


TURN = 0.3
"""seconds that one turn of a library lasts at least"""


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

    Each call does `work` units (images, views, rows). Short ones are repeated within a round until they have taken
    `TURN`: right after another library's turn, caches are cold and pages shared with its workers. Rates are medians in
    `unit` per second; `ratio` is the median over rounds of (our rate / the peer's rate), so above 1 ours is faster.
    Without peers one row with `peer_name` "-".
    """
    runs: dict[str, Callable[[], object]] = {"ours": ours, **peers}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    times = dict.fromkeys(runs, 1)
    for name, call in runs.items():
        for _ in range(warmup):
            start = time.perf_counter()
            call()
            times[name] = max(1, math.ceil(TURN / (time.perf_counter() - start)))
    order = list(runs)
    for i in range(rounds):
        for name in order if i % 2 == 0 else reversed(order):
            gc.collect()
            start = time.perf_counter()
            for _ in range(times[name]):
                runs[name]()
            seconds[name].append((time.perf_counter() - start) / times[name])
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


def keep(rows: list[Row], device: str = "cpu") -> None:
    """Put rows into results/bench.json and its table, in place of older ones of the same benchmark."""
    target = ROOT / "results" / ("bench.json" if device == "cpu" else f"bench-{device}.json")
    old = json.loads(target.read_text()) if target.exists() else []
    done, now = {r["bench"] for r in rows}, about()
    record = [r for r in old if r["bench"] not in done] + [{**r, **now} for r in rows]
    target.write_text(json.dumps(record, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(record, device))


def about() -> dict:
    """Machine, versions, time and command."""

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    module = getattr(sys.modules["__main__"].__spec__, "name", "bench")
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "time": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python -m", module.removesuffix(".__main__"), *(_shown(a) for a in sys.argv[1:])]),
        "machine": f"{cpu or platform.processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {p: v for p in PACKAGES if (v := of(p))},
    }


def _shown(argument: str) -> str:
    """A path by its last part."""
    return Path(argument).name if "/" in argument else argument


def table(rows: list[Row], device: str) -> str:
    """The rows as Markdown."""
    lines = [
        f"# Benchmarks on {device}",
        "",
        "Ours and the peer run in turns; rates are medians, the ratio is the median over rounds, and above 1 nolabel is",
        "faster (or smaller, where the unit is memory).",
        "",
        "| bench | case | nolabel | peer | | ratio |",
        "|---|---|---:|---:|---|---:|",
    ]
    for r in rows:
        peer = "" if r["peer"] is None else f"{r['peer']:,.4g}"
        ratio = "" if r["ratio"] is None else f"**{r['ratio']:.2f}**"
        cells = [r["bench"], r["case"], f"{r['ours']:,.4g} {r['unit']}", peer, r["peer_name"], ratio]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for how in dict.fromkeys((r["command"], r["time"], r["machine"], json.dumps(r["versions"])) for r in rows):
        named = ", ".join(dict.fromkeys(r["bench"] for r in rows if (r["command"], r["time"]) == how[:2]))
        versions = ", ".join(f"{k} {v}" for k, v in json.loads(how[3]).items())
        lines.append(f"- {named}: `{how[0].strip()}`, {how[1]}, {how[2]}; {versions}.")
    return "\n".join(lines) + "\n"
