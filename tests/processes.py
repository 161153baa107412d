"""Processes of their own, for tests that kill, time out or crash them.

Each is forked from a server that has imported torch and the package and done nothing else: a fork of the test's own
process would hang in its first parallel loop, once torch has started its threads there.
"""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch

CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["nolabel.api", "nolabel.engine", "nolabel.methods"])


def process(target: Callable, *args, **kwargs) -> multiprocessing.Process:
    """A process for `target`, which pickle must find by name, in the folder and environment of this one; not started."""
    return CLEAN.Process(target=_begin, args=(dict(os.environ), os.getcwd(), target, args, kwargs))


def started(*argv, cwd: Path) -> multiprocessing.Process:
    """The command on its way in folder `cwd`; what it prints goes to `.out` and `.err` there."""
    child = process(_command, cwd, [str(a) for a in argv])
    child.start()
    return child


def ended(child: multiprocessing.Process, cwd: Path, code: int, seconds: float = 240) -> str:
    """What the command in folder `cwd` said on standard error, once it has ended with `code`."""
    child.join(seconds)
    said = (cwd / ".err").read_text()
    assert child.exitcode == code, (child.exitcode, said)
    assert "Traceback" not in said
    return said


def _command(folder, argv):
    from nolabel.cli import main

    for number, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    os.chdir(folder)
    main(argv)


def ranks(target: Callable, world: int, *args) -> None:
    """`target(rank, *args)` in `world` processes at once; the error of one ends all and is raised here."""
    torch.multiprocessing.start_processes(target, args, world, start_method="forkserver")


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
    torch.set_num_threads(1)
    pipe.send(target(*args, **kwargs))
