"""A rank that dies ends the whole run at once; the run then goes on where its last checkpoint stands."""

import os
import signal
import subprocess
import sys
import time

import numpy as np


def test_a_dead_rank_ends_the_run_and_resume_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (256, 24, 24, 3), dtype=np.uint8))
    argv = [sys.executable, "-m", "nolabel.cli", "train", "simclr", "--data", "images.npz", "--processes", "2"]
    argv += ["--epochs", "400", "--batch", "64", "--log-every", "1", "--checkpoint-minutes", "0", "--dir", "run"]
    argv += ["--evaluate", "--no-report"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    metrics = tmp_path / "run/metrics.jsonl"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and (not metrics.exists() or len(metrics.read_bytes().splitlines()) < 4):
        time.sleep(0.05)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(ranks) == 2
    start = time.monotonic()
    os.kill(int(ranks[1]), signal.SIGKILL)
    process.communicate(timeout=60)
    assert time.monotonic() - start < 60
    assert process.returncode not in (0, None)
    assert not any(os.path.exists(f"/proc/{r}") for r in ranks)
    assert list((tmp_path / "run/checkpoints").glob("step-*.pt"))
