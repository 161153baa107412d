"""Weights, gradients and optimiser state dealt out over the ranks (FSDP2), and their way into checkpoints and back.

The whole method is one unit: it is gathered for a step and only a part of it stays with each rank between steps.
A part of a state holds, in place of a tensor, `{"shard": rows of this rank}`; the rows of all ranks, in rank order, are
the tensor (`checkpoint.joined`). So a checkpoint of W ranks loads on any number of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nolabel.core import Method, UserError
from nolabel.core.dist import world


def shard(method: Method) -> None:
    """Deal the method out over the ranks, in place. Raises `UserError` for one whose trained weights change on the way."""
    if len(method.turns) > 1 or method.stages > 1:
        raise UserError("--shard is for methods with one turn and one stage; train this one without it")
    # FSDP2 takes no channels-last weights
    method.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    device = next(method.parameters()).device.type
    fully_shard(method, mesh=init_device_mesh(device, (world(),)))


@contextmanager
def whole(method: nn.Module) -> Iterator[None]:
    """Within it every rank holds all weights as plain tensors, to look at and not to change; all ranks enter together."""
    if not isinstance(method, FSDPModule):
        yield
        return
    method.unshard()
    try:
        yield
    finally:
        method.reshard()


def synchronised(method: nn.Module, now: bool) -> None:
    """Whether the next backward exchanges gradients."""
    if isinstance(method, FSDPModule):
        method.set_requires_gradient_sync(now)


def plain(x: Tensor) -> Tensor:
    """A number that the ranks have in common, as a plain tensor."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def part_of(state: Any) -> Any:
    """A state with the rows of this rank, which `torch.load(weights_only=True)` reads."""
    return _mapped(lambda x: {"shard": x.to_local()} if isinstance(x, DTensor) else x, state)


def dealt(state: Any, like: Any) -> Any:
    """A whole state dealt out as `like` is, tensor by tensor; plain where that is plain."""
    if isinstance(state, dict) and isinstance(like, dict):
        return {key: dealt(value, like.get(key)) for key, value in state.items()}
    if isinstance(state, Tensor) and isinstance(like, DTensor):
        return distribute_tensor(state.to(like.device), like.device_mesh, like.placements)
    return state


def gathered(state: Any) -> Any:
    """A whole state on the CPU of every rank; all ranks call it together."""
    return _mapped(lambda x: plain(x).cpu() if isinstance(x, Tensor) else x, state)


def _mapped(change: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _mapped(change, value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_mapped(change, value) for value in state)
    return change(state)
