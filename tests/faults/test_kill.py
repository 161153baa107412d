"""kill -9 at random moments, in steps and while checkpoints are written; resume ends bitwise where nothing happened."""

import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nolabel import methods
from tests.processes import process
from tests.support import NARROW

KILLS = 20


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 255, (160, 32, 32, 3), dtype=np.uint8))
    return path


def train(name, images, folder, epochs=3, checkpoint_minutes=0.0):
    """Train small; ends like the command does when it is told to stop."""
    import nolabel as nl
    from nolabel.engine import Interrupted

    torch.set_num_threads(1)
    names = set(methods.load(name).__dataclass_fields__)
    narrow = {k: v for k, v in NARROW.items() if k in names}
    try:
        nl.train(
            name, images, epochs=epochs, batch=32, log_every=1, checkpoint_minutes=checkpoint_minutes, processes=1,
            evaluate=(), report=False, quiet=True, dir=folder, precision="fp32", **narrow,
        )  # fmt: skip
    except Interrupted as stop:
        raise SystemExit(stop.code) from None


def resume(folder):
    import nolabel as nl

    torch.set_num_threads(1)
    nl.resume(folder, quiet=True)


def run(target, *args, moment=None):
    """Run in a process of its own; with `moment`, kill it once that function says so. Returns its exit code."""
    child = process(target, *args)
    child.start()
    limit = time.monotonic() + 120
    while moment is not None and child.is_alive() and time.monotonic() < limit:
        if moment():
            os.kill(child.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    child.join(180)
    if child.is_alive():
        child.kill()
        raise AssertionError("it hangs")
    return child.exitcode


def after_lines(folder, count, delay=0.0):
    """A moment: some time after so many lines of the log."""

    def here():
        path = folder / "metrics.jsonl"
        if not path.exists() or len(path.read_bytes().splitlines()) < count:
            return False
        time.sleep(delay)
        return True

    return here


def same_end(whole, cut):
    """Whether two runs kept bitwise the same encoder."""
    a, b = (load_file(folder / "encoder.safetensors") for folder in (whole, cut))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_killed_and_resumed_is_bitwise_the_same(killed, images, tmp_path):
    assert run(train, killed, images, tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    rng = random.Random(killed)
    at = sorted(rng.sample(range(1, 13), 3))
    for target, args, count in ((train, (killed, images, cut), at[0]), *((resume, (cut,), n) for n in at[1:])):
        assert run(target, *args, moment=after_lines(cut, count, 0.05 * rng.random())) == -signal.SIGKILL
    assert not (cut / "encoder.safetensors").exists()
    assert run(resume, cut) == 0
    assert same_end(tmp_path / "whole", cut)


def dawdling(target, *args):
    """Run with an epoch hook and writes of checkpoints that take long enough to be killed in."""
    from nolabel.engine import checkpoint

    kind, write = methods.load("simclr"), checkpoint._Digesting.write
    hook_at = args[-1].parent / "hook"

    def begin_epoch(self, t, data):
        hook_at.touch()
        time.sleep(0.05)
        hook_at.unlink()

    def slow_write(self, data):
        time.sleep(0.0003)
        return write(self, data)

    kind.begin_epoch, checkpoint._Digesting.write = begin_epoch, slow_write
    target(*args)


def long_train(images, folder):
    train("simclr", images, folder, epochs=40)


@pytest.mark.slow
def test_twenty_kills_at_all_kinds_of_moments(images, tmp_path):
    """In a step, in an epoch hook, while a checkpoint is written, at any time at all."""
    whole, cut = tmp_path / "whole" / "run", tmp_path / "cut" / "run"
    for folder in (whole, cut):
        folder.parent.mkdir()
    assert run(dawdling, long_train, images, whole) == 0
    rng = random.Random(0)
    killed = []
    while len(killed) < KILLS:
        began = time.monotonic()
        path = cut / "metrics.jsonl"
        done, wait = len(path.read_bytes().splitlines()) if path.exists() else 0, 3 * rng.random()
        further = after_lines(cut, done + rng.randint(1, 4), 0.03 * rng.random())
        kind, moment = [
            ("step", further),
            ("hook", lambda further=further: further() and (cut.parent / "hook").exists()),
            ("write", lambda further=further: further() and any((cut / "checkpoints").glob(".*.tmp"))),
            ("any", lambda began=began, wait=wait: time.monotonic() > began + wait and (cut / "run.json").exists()),
        ][len(killed) % 4]
        (cut.parent / "hook").unlink(missing_ok=True)
        target = (long_train, images, cut) if not (cut / "run.json").exists() else (resume, cut)
        assert run(dawdling, *target, moment=moment) == -signal.SIGKILL, f"it ended before kill {len(killed)}, {kind}"
        killed.append(kind)
    assert run(dawdling, resume, cut) == 0
    assert same_end(whole, cut)


def test_sigterm_writes_a_checkpoint_and_the_end_is_bitwise_the_same(images, tmp_path):
    assert run(train, "simclr", images, tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    child = process(train, "simclr", images, cut, checkpoint_minutes=60.0)
    child.start()
    while not after_lines(cut, 2)() and child.is_alive():
        time.sleep(0.001)
    child.terminate()
    child.join(60)
    assert child.exitcode == 143
    (written,) = (cut / "checkpoints").glob("step-*.pt")
    assert int(written.name[8:17]) >= 2 and not (cut / "encoder.safetensors").exists()
    assert run(resume, cut) == 0
    assert same_end(tmp_path / "whole", cut)
