"""The only place with collectives. All are the identity on one process.

The convention that makes N ranks equal one: a rank's loss is the mean over its own anchors, against keys of all ranks.
`gather` sums gradients over ranks on the way back, and data-parallel training then averages them, which gives the
gradient of the mean over the global batch.
"""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad[rank() * ctx.rows :][: ctx.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


def gather(x: Tensor) -> Tensor:
    """All ranks' rows in rank order, with gradient: (B, ...) -> (world * B, ...). Every rank must hold equally many."""
    return _Gather.apply(x) if world() > 1 else x  # type: ignore[no-any-return]


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum over ranks, with gradient."""
    return _Sum.apply(x) if world() > 1 else x  # type: ignore[no-any-return]


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean over ranks, with gradient."""
    return sum_over_ranks(x) / world() if world() > 1 else x


def own_rows(count: int) -> slice:
    """The part of `count` rows that this rank works on: equal parts in rank order, the last ones shorter."""
    each = -(-count // world())
    return slice(min(count, rank() * each), min(count, (rank() + 1) * each))


def join_rows(part: Tensor, count: int) -> Tensor:
    """The `own_rows` of all ranks put together, without gradient: (own, ...) -> (count, ...), alike on all ranks."""
    if world() == 1:
        return part
    full = part.new_zeros(-(-count // world()), *part.shape[1:])
    full[: len(part)] = part
    return gather(full)[:count]


def share(value: Any) -> Any:
    """Rank 0's value of a small picklable object, on every rank."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait for all ranks."""
    if world() > 1:
        dist.barrier()
