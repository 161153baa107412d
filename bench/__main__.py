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
import subprocess
import sys
from pathlib import Path

from bench.harness import ROOT, keep

NAMES = ("views", "decode", "losses", "step", "loop", "knn", "engine", "startup", "toyworld", "end_to_end")


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
    keep(rows, chosen.device)


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


if __name__ == "__main__":
    main()
