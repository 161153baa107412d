"""Processes of their own, for tests that kill, time out or crash them.

Each is forked from a server that has imported torch and the package and done nothing else: a fork of the test's own
process would hang in its first parallel loop, once torch has started its threads there.
"""

import multiprocessing
import os
from collections.abc import Callable

CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["nolabel.api", "nolabel.engine", "nolabel.methods"])


def process(target: Callable, *args, **kwargs) -> multiprocessing.Process:
    """A process for `target`, which pickle must find by name, in the folder and environment of this one; not started."""
    return CLEAN.Process(target=_begin, args=(dict(os.environ), os.getcwd(), target, args, kwargs))


def _begin(environment, folder, target, args, kwargs):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    target(*args, **kwargs)


def answer(seconds: float, target: Callable, *args, **kwargs):
    """What `target` returns in a process of its own: neither a crash nor a hang takes the test with it."""
    here, there = CLEAN.Pipe(duplex=False)
    child = process(_send, there, target, args, kwargs)
    child.start()
    there.close()
    try:
        assert here.poll(seconds), "it hangs"
        return here.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"the process died with code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()


def _send(pipe, target, args, kwargs):
    import torch

    torch.set_num_threads(1)
    pipe.send(target(*args, **kwargs))
