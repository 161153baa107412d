"""Processes: started by torchrun or by us on one machine, wrapped by DistributedDataParallel."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist
from torch import nn

from nolabel.core import Method, UserError
from nolabel.core.dist import local_rank, world
from nolabel.engine.checkpoint import LOCK


def device_of(name: str = "auto") -> torch.device:
    """The device of this process: auto, cpu or cuda (the GPU of its local rank). Raises `UserError` if there is none."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if kind not in ("cpu", "cuda"):
        raise UserError(f"unknown device '{name}' (there are: auto, cpu, cuda)")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("this torch sees no CUDA device; leave --device at auto or say cpu")
    if kind == "cuda" and local_rank() >= (count := torch.cuda.device_count()):
        raise UserError(
            f"process {local_rank() + 1} finds no GPU of its own: there are {count}; take fewer, or --device cpu"
        )
    return torch.device("cuda", local_rank()) if kind == "cuda" else torch.device("cpu")


def join(device: torch.device) -> None:
    """Meet the other ranks, where torchrun or `launch` started this process."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if started() and not dist.is_initialized():
        # a dead rank must end the whole run within a minute, not after gloo's default half hour
        limit = timedelta(seconds=int(os.environ.get("NOLABEL_TIMEOUT", "60" if device.type == "cpu" else "600")))
        # torchrun keeps its store over restarts, and in it the addresses of ranks that are gone
        store, number, size = next(dist.rendezvous("env://", timeout=limit))
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=limit)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def started() -> bool:
    """Whether this process is one of several that torchrun or `launch` started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def restarted() -> bool:
    """Whether torchrun started this process again, after a rank had failed (`--max-restarts`)."""
    return started() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


_ours: int | None = None
"""the threads that torch is to have in the end, in a process that is ours alone"""


def own() -> None:
    """Promise that this process does nothing but one command. Until `spread` torch then keeps to one thread, so that
    `launch` may fork it, which saves every rank the seconds of its imports.
    """
    global _ours
    _ours = _ours or torch.get_num_threads()
    torch.set_num_threads(1)


def spread() -> None:
    """Give torch its threads back in a process that was `own`, unless it is one of several."""
    if _ours and not started():
        torch.set_num_threads(_ours)


def _may_fork(threads: int) -> bool:
    """Whether a copy of this process is as good as a fresh one. With threads of OpenMP, numba or CUDA it would hang."""
    pool = getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False)
    alone = threading.active_count() == 1 and not torch.cuda.is_initialized()
    return _ours is not None and hasattr(os, "fork") and threads == 1 == torch.get_num_threads() and alone and not pool


class _Fork:
    """`module.main(argv)` in a copy of this process, with the manners of a `subprocess.Popen`."""

    def __init__(self, module: str, argv: list[str], env: dict[str, str]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                os.environ.update(env)
                importlib.import_module(module).main(argv)
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def launch(module: str, argv: list[str], processes: int, lock: int | None = None) -> int:
    """Run `python -m module argv` as `processes` ranks on this machine; the exit code of the first that fails, else 0.

    `lock` is the open file that `checkpoint.held` gave for their run: it stays held until the last of them has ended.
    Signals are passed on once; when a rank dies the others are ended. CPU cores are shared out among the ranks.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, cores() // processes)
    fork, ranks = _may_fork(threads), list[_Fork | subprocess.Popen[bytes]]()
    for r in range(processes):
        about = {"RANK": r, "LOCAL_RANK": r, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared = {} if lock is None else {LOCK: lock}
        env = {k: str(v) for k, v in {**about, **shared, "OMP_NUM_THREADS": threads}.items()}
        if fork:
            ranks.append(_Fork(module, argv, env))
        else:
            command = [sys.executable, "-m", module, *argv]
            passed = () if lock is None else (lock,)
            ranks.append(subprocess.Popen(command, env={**os.environ, **env}, start_new_session=True, pass_fds=passed))

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    before = {s: signal.signal(s, pass_on) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            codes = [process.poll() for process in ranks]
            failed = [c for c in codes if c]
            if failed or None not in codes:
                break
            time.sleep(0.05)
        limit = time.monotonic() + 10  # the others may be on their way out, too
        while failed and time.monotonic() < limit and None in [process.poll() for process in ranks]:
            time.sleep(0.05)
        return failed[0] if failed else 0
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(method: Method) -> nn.Module:
    """The callable that computes losses: the method itself, or its data-parallel form.

    Buffers are not broadcast: banks, queues and centres are kept equal by the methods, through `core.dist`.
    """
    if world() == 1:
        return method
    # of 1 x 1 convolutions in channels-last order, whose strides over single elements mean nothing
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.parallel.DistributedDataParallel(
            method,
            broadcast_buffers=False,
            find_unused_parameters=len(method.turns) > 1,
            gradient_as_bucket_view=True,
        )
