"""Time from the command to the first line of help, the catalogue, and the first training step of a cached run."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Row


def seconds(*argv: str, rounds: int = 5, cwd: str | None = None) -> float:
    """Median wall time of a command, after one warm-up."""
    took = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nolabel", *argv], check=True, capture_output=True, cwd=cwd)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def first_step() -> float:
    """Seconds from the command until the first step of a run on cached data is logged."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "nolabel", "train", "simclr", "--steps", "2", "--log-every", "1"]
        argv += ["--dir", f"{folder}/run", "--evaluate", "--no-report", "--batch", "64"]
        start = time.perf_counter()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        metrics = Path(folder) / "run" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        took = time.perf_counter() - start
        process.wait()
    return took


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Seconds of each; no peer has a command to compare with."""
    n = 3 if quick else 5
    found = {
        "nolabel --help": seconds("--help", rounds=n),
        "nolabel methods": seconds("methods", rounds=n),
        "first step of a cached run": statistics.median([first_step() for _ in range(n)][1:]),
    }
    return [
        {
            "bench": "startup",
            "case": case,
            "ours": s,
            "peer": None,
            "peer_name": "-",
            "ratio": None,
            "unit": "s",
            "rounds": n,
        }
        for case, s in found.items()
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row['case']:40s} {row['ours']:6.2f} s")
