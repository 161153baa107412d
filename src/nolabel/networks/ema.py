"""A running average of a network: the teacher of BYOL, MoCo, DINO, mean teacher and their kin."""

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class EMA(nn.Module):
    """A frozen copy of `net` whose weights follow it: after each step `average <- m * average + (1 - m) * net`.

    The copy is `self.net` and is never trained. Update it with the plain network, not with a wrapper that renames
    parameters: `teacher.update(self.encoder, momentum)` inside a method is right under DDP too, and with equal
    weights on all ranks the averages stay equal without communication.

    `buffers` says what becomes of running statistics:
        "own"   the copy keeps its own, moved by its own batches (BYOL, MoCo v3, DINO)
        "copy"  they are those of `net` at the last update
        "ema"   they are averaged like the weights; integers such as counters are copied (mean teacher)

    In train mode the batch norms of the copy use the statistics of their batch, as in BYOL and MoCo v3, but dropout
    and stochastic depth stay off, as a target should not be noisy; `noise=True` leaves them on (mean teacher).
    Keep the weights in fp32: with m near 1 the step (1 - m) * difference is lost in bf16.
    """

    frozen = True  # tells core.Method.groups to leave these parameters out

    def __init__(self, net: nn.Module, buffers: Literal["own", "copy", "ema"] = "own", noise: bool = False):
        super().__init__()
        if buffers not in ("own", "copy", "ema"):
            raise ValueError(f"buffers must be own, copy or ema, not {buffers!r}")
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.buffer_policy, self.noise = buffers, noise
        self.train(net.training)

    def train(self, mode: bool = True) -> "EMA":
        """Switch mode; see the class for what acts in train mode."""
        super().train(mode)
        if not self.noise:
            self.net.eval()
            for module in self.net.modules():
                if isinstance(module, _BatchNorm):
                    module.train(mode)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the average network, without gradient."""
        return self.net(*args, **kwargs)

    @torch.no_grad()
    def update(self, net: nn.Module, momentum: float) -> None:
        """Move towards `net`: momentum 1 changes nothing, 0 copies. Tensors are matched by name."""
        averaged = _pairs(self.net.named_parameters(), net.named_parameters())
        if self.buffer_policy != "own":
            for mine, theirs in _pairs(self.net.named_buffers(), net.named_buffers()):
                if self.buffer_policy == "ema" and mine.is_floating_point():
                    averaged.append((mine, theirs))
                else:
                    mine.copy_(theirs)
        torch._foreach_lerp_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], 1.0 - momentum)


def from_start(momentum: float, step: int) -> float:
    """The momentum at a step of training: at first lower, (1 + step) / (10 + step), so that short runs forget the start."""
    return min(momentum, (1 + step) / (10 + step))


def _pairs(mine: Iterable[tuple[str, Tensor]], theirs: Iterable[tuple[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    a, b = dict(mine), dict(theirs)
    if a.keys() != b.keys():
        raise ValueError(f"EMA: the networks differ in {sorted(a.keys() ^ b.keys())[:4]}; pass the plain network")
    return [(tensor, b[name]) for name, tensor in a.items()]
