"""Processes: started by torchrun, wrapped by DistributedDataParallel."""

import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from nolabel.core import Method
from nolabel.core.dist import local_rank, world


def start(device: str = "auto") -> torch.device:
    """The device of this process; joins the process group when torchrun started us."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind == "cuda":
        torch.cuda.set_device(local_rank())
        kind = f"cuda:{local_rank()}"
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        # a dead rank must end the whole run within a minute, not after gloo's default half hour
        limit = timedelta(seconds=int(os.environ.get("NOLABEL_TIMEOUT", "60" if kind == "cpu" else "600")))
        dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo", timeout=limit)
    return torch.device(kind)


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.parallel.DistributedDataParallel(
            method,
            broadcast_buffers=False,
            find_unused_parameters=len(method.turns) > 1,
            gradient_as_bucket_view=True,
        )
