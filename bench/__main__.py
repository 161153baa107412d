"""`python -m bench [NAME ...]`: time nolabel beside its peers, in turns, in one process each.

    python -m bench                              all, on this machine; writes results/bench.md and results/bench.json
    python -m bench views losses --json out.json --quick
    python -m bench --device cuda

Peers that are not installed are left out: pip install 'nolabel[bench]' brings them. Rates are medians; a ratio is the
median over rounds of our rate by the peer's, so above 1 ours is faster. Every benchmark is also a module of its own:
`python -m bench.NAME`.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAMES = ("views", "decode", "losses", "step", "knn", "engine", "startup", "end_to_end")
ROOT = Path(__file__).parent.parent
PACKAGES = ("nolabel", "torch", "torchvision", "timm", "numba", "lightly", "lightning", "kornia", "faiss-cpu", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, for a first look")
    parser.add_argument("--json", type=Path, help="write the rows here instead of to results/")
    parser.add_argument("--rows-of", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rows_of:
        rows = importlib.import_module(f"bench.{chosen.rows_of}").rows(chosen.device, chosen.quick)
        print("ROWS " + json.dumps(rows))
        return
    for name in chosen.names:
        if name not in NAMES:
            parser.error(f"unknown benchmark '{name}' (there are: {', '.join(NAMES)})")
    rows = []
    for name in chosen.names or NAMES:
        rows += _apart(name, chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))
        return
    target = ROOT / "results" / ("bench.json" if chosen.device == "cpu" else f"bench-{chosen.device}.json")
    kept = json.loads(target.read_text())["rows"] if target.exists() else []
    done = {r["bench"] for r in rows}
    record = {"about": about(), "rows": [r for r in kept if r["bench"] not in done] + rows}
    target.write_text(json.dumps(record, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(record, chosen.device))


def _apart(name: str, chosen: argparse.Namespace) -> list[dict]:
    """Run one benchmark in a process of its own, so that none inherits another's threads, memory or caches."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    argv = [sys.executable, "-m", "bench", "--rows-of", name, "--device", chosen.device]
    argv += ["--quick"] if chosen.quick else []
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ROWS ")]
    if done.returncode or not lines:
        print(f"  failed: {(done.stderr.strip().splitlines() or ['no rows'])[-1]}", file=sys.stderr)
        return []
    rows = json.loads(lines[-1][5:])
    for r in rows:
        ratio = "" if r["ratio"] is None else f"{r['ratio']:8.2f} x {r['peer_name']}"
        print(f"  {r['case'][:72]:72s} {r['ours']:12,.4g} {r['unit']:12s} {ratio}", file=sys.stderr, flush=True)
    return rows


def about() -> dict:
    """Machine, versions, time and command."""

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "time": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": "python -m bench " + " ".join(sys.argv[1:]),
        "machine": f"{cpu or platform.processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {p: v for p in PACKAGES if (v := of(p))},
    }


def table(record: dict, device: str) -> str:
    """The rows as Markdown."""
    lines = [
        f"# Benchmarks on {device}",
        "",
        f"`{record['about']['command'].strip()}`, {record['about']['time']}, {record['about']['machine']};",
        ", ".join(f"{k} {v}" for k, v in record["about"]["versions"].items()) + ".",
        "",
        "Ours and the peer run in turns in one process; rates are medians, the ratio is the median over rounds, and above 1",
        "nolabel is faster (or smaller, where the unit is memory).",
        "",
        "| bench | case | nolabel | peer | | ratio |",
        "|---|---|---:|---:|---|---:|",
    ]
    for r in record["rows"]:
        peer = "" if r["peer"] is None else f"{r['peer']:,.4g}"
        ratio = "" if r["ratio"] is None else f"**{r['ratio']:.2f}**"
        lines.append(
            f"| {r['bench']} | {r['case']} | {r['ours']:,.4g} {r['unit']} | {peer} | {r['peer_name']} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
