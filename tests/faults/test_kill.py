"""kill -9 at random moments, in steps and while checkpoints are written; resume ends bitwise where nothing happened."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nolabel import methods
from tests.support import NARROW

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 255, (160, 32, 32, 3), dtype=np.uint8))
    return path


def train(name, images, folder):
    import nolabel as nl

    torch.set_num_threads(1)
    names = set(methods.load(name).__dataclass_fields__)
    narrow = {k: v for k, v in NARROW.items() if k in names}
    nl.train(
        name, images, epochs=3, batch=32, log_every=1, checkpoint_minutes=0.0, processes=1, evaluate=(), report=False,
        quiet=True, dir=folder, precision="fp32", **narrow,
    )  # fmt: skip


def resume(folder):
    import nolabel as nl

    torch.set_num_threads(1)
    nl.resume(folder, quiet=True)


def run(target, *args, kill_after=None, watch=None):
    """Run in a process of its own; with `kill_after`, kill it at a moment after so many log lines."""
    process = FORK.Process(target=target, args=args)
    process.start()
    if kill_after is not None:
        limit = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < limit:
            if watch.exists() and len(watch.read_bytes().splitlines()) >= kill_after:
                time.sleep(random.Random(kill_after).random() * 0.05)
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
    process.join(180)
    return process.exitcode


@pytest.mark.parametrize("name", methods.names())
def test_killed_and_resumed_is_bitwise_the_same(name, images, tmp_path):
    assert run(train, name, images, tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    at = random.Random(name).sample(range(1, 13), 3)
    assert run(train, name, images, cut, kill_after=min(at), watch=cut / "metrics.jsonl") == -signal.SIGKILL
    for moment in sorted(at)[1:]:
        assert run(resume, cut, kill_after=moment, watch=cut / "metrics.jsonl") == -signal.SIGKILL
    assert not (cut / "encoder.safetensors").exists()
    assert run(resume, cut) == 0
    whole, again = load_file(tmp_path / "whole/encoder.safetensors"), load_file(cut / "encoder.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[k], again[k]) for k in whole)
