"""Losses compute in fp32 (or fp64 where that is what they get), also inside an autocast region."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def wide(x: Tensor) -> Tensor:
    """`x` in at least fp32: half-precision values are widened, fp32 and fp64 pass through."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(loss: Callable[P, R]) -> Callable[P, R]:
    """Run `loss` with autocast off on the device of its first argument (a tensor or a sequence of tensors)."""

    @functools.wraps(loss)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else next(iter(kwargs.values()))
        while not isinstance(first, Tensor):
            first = first[0]  # type: ignore[index]
        with torch.autocast(first.device.type, enabled=False):
            return loss(*args, **kwargs)

    return run
