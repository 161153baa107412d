"""A disk that fills up ends the run with one line; the last good checkpoint stays, and the run goes on from it."""

import subprocess
import time

import numpy as np
import pytest

from nolabel.engine import Checkpoints
from tests.processes import ended, started
from tests.support import NARROW

SIZE = 24 * 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """Take all the room that is left."""
    with open(place / "filler", "wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_the_last_good_checkpoint_survives_a_full_disk(small_disk, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (64, 24, 24, 3), dtype=np.uint8))
    run = small_disk / "run"
    process = started(
        "train", "simclr", "--data", "images.npz", "--epochs", 500, "--batch", 32, "--log-every", 1, "--dir", run,
        "--checkpoint-minutes", 0, "--processes", 1, "--hidden", NARROW["hidden"], "--out", NARROW["out"],
        "--evaluate", "--no-report", "--quiet", cwd=tmp_path,
    )  # fmt: skip
    limit = time.monotonic() + 120
    while len(list((run / "checkpoints").glob("step-*.pt"))) < 2 and process.is_alive():
        assert time.monotonic() < limit
        time.sleep(0.02)
    fill(small_disk)
    (line,) = ended(process, tmp_path, 2).strip().splitlines()
    assert line.startswith("nolabel: cannot write") and "No space" in line
    state = Checkpoints(run / "checkpoints").load()
    assert state is not None and state["step"] > 0
    assert not list((run / "checkpoints").glob(".*.tmp"))

    said = ended(started("resume", run, "--quiet", cwd=tmp_path), tmp_path, 2)
    assert len(said.strip().splitlines()) == 1, said
    (small_disk / "filler").unlink()
    again = started("resume", run, "--quiet", cwd=tmp_path)
    seen = state["step"]
    while again.is_alive() and time.monotonic() < limit:
        newest = Checkpoints(run / "checkpoints").found()
        if newest and int(newest[-1].name[8:17]) > seen + 2:
            break
        time.sleep(0.02)
    again.terminate()
    said = ended(again, tmp_path, 143, seconds=60)
    assert "checkpoint" in said and len(said.strip().splitlines()) == 1, said
    assert Checkpoints(run / "checkpoints").load()["step"] > seen
