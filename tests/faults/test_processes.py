"""A rank that dies ends the whole run at once; the run then goes on where its last checkpoint stands."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors.torch import load_file

import nolabel as nl
from nolabel.core.fields import override
from nolabel.options import Options
from nolabel.resolve import resolve
from nolabel.runs import begun_before
from tests.processes import ended, started


def waited(metrics, lines):
    """Wait until a run has logged so much."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit and (not metrics.exists() or len(metrics.read_bytes().splitlines()) < lines):
        time.sleep(0.05)


def test_torchrun_brings_a_run_back_when_a_rank_dies(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (256, 24, 24, 3), dtype=np.uint8))
    argv = ["train", "simclr", "--data", "images.npz", "--epochs", "6", "--batch", "64", "--quiet"]
    argv += ["--log-every", "1", "--checkpoint-minutes", "0", "--evaluate", "--no-report"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended(started(*argv, "--processes", "2", "--dir", "whole", cwd=tmp_path), tmp_path, 0)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    process = subprocess.Popen(
        [*torchrun, "--standalone", "-m", "nolabel", *argv],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "runs/simclr-images"
    waited(run / "metrics.jsonl", 6)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert [p.name for p in run.parent.iterdir()] == [run.name]
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == list(range(1, 25))
    ends = [load_file(folder / "encoder.safetensors") for folder in (tmp_path / "whole", run)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_that_starts_again_is_gone_on_with_only_if_it_is_the_same(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (64, 24, 24, 3), dtype=np.uint8)
    same = {"steps": 2, "batch": 32, "processes": 1, "evaluate": (), "report": False, "quiet": True}
    run = nl.train("simclr", x, dir=tmp_path / "run", **same)
    options = override(Options(data=run.plan.data, dir=run.folder), same)
    for changes, fields, found in (({}, {}, run.folder), ({"steps": 3}, {}, None), ({}, {"temperature": 0.3}, None)):
        plan, _ = resolve("simclr", override(options, changes), fields, lambda what, done: None)
        assert begun_before(options, plan) == found
    for path in (run.folder / "metrics.jsonl", *run.folder.glob("encoder*"), *run.folder.glob("checkpoints/*")):
        path.unlink()  # as if it had died before its first step
    plan, _ = resolve("simclr", options, {}, lambda what, done: None)
    assert begun_before(options, plan) == run.folder
    nl.resume(run.folder, quiet=True)
    assert (run.folder / "encoder.safetensors").exists()


def test_a_slip_under_torchrun_is_one_line(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    argv = [*torchrun, "-m", "nolabel", "train", "simclr", "--data", "nowhere/", "--dir", "run"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and done.stderr.count("nolabel: ") == 1
    assert "nowhere" in done.stderr and "[rank" not in done.stderr and "gloo" not in done.stderr


def test_a_dead_rank_ends_the_run_and_resume_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (256, 24, 24, 3), dtype=np.uint8))
    argv = ["train", "simclr", "--data", "images.npz", "--processes", "2", "--epochs", "400", "--batch", "64"]
    argv += ["--log-every", "1", "--checkpoint-minutes", "0", "--dir", "run", "--evaluate", "--no-report"]
    process = started(*argv, cwd=tmp_path)
    waited(tmp_path / "run/metrics.jsonl", 4)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(ranks) == 2
    start = time.monotonic()
    os.kill(int(ranks[1]), signal.SIGKILL)
    process.join(60)
    assert time.monotonic() - start < 60
    assert process.exitcode not in (0, None)
    assert not any(os.path.exists(f"/proc/{r}") for r in ranks)
    assert list((tmp_path / "run/checkpoints").glob("step-*.pt"))
