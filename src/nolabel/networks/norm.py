"""Batch norms that look at a batch without remembering it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Within, batch norms use the statistics of their batch, in train mode, and leave their running ones alone."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
