"""Image views on the CPU, one at a time so that a view stays in the cache from its bytes to its normalised floats.

Threads are our own, over slices of the batch, because a second OpenMP beside torch's makes both slow; the kernel holds
no lock of Python.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nolabel.views import cpu_kernels
from nolabel.views.draw import Draws, channel_stats, join

if TYPE_CHECKING:
    from nolabel.views.image import OneView

_SLICES = 4  # for each thread, because views cost unequal time


def render(image_BHWC: Tensor, views: list["OneView"], draws: list[Draws], threads: int | None = None) -> Tensor:
    """uint8 (B, H, W, C) -> float32 (V, B, C, S, S), each (B, C, S, S) channels last in memory.

    On `threads` threads, torch.get_num_threads() unless given.
    """
    view, rows = views[0], join(draws)
    count, channels = len(rows.flip), image_BHWC.shape[3]
    # numpy asks the kernel for huge pages, torch does not: without them page faults cost as much as the views
    out = np.empty((count, view.size, view.size, channels), np.float32)
    mean, std = (np.array(s, np.float32) for s in channel_stats(view.mean, view.std, channels))
    image = image_BHWC.numpy().reshape(-1), tuple(image_BHWC.shape)
    columns = [t.numpy() for t in rows]

    def some(start: int, stop: int) -> None:
        cpu_kernels.render(
            *image, start, stop, *columns, view.interpolation == "bicubic", 1 / (255 * std), -mean / std, out
        )

    threads = min(threads or torch.get_num_threads(), count)
    if threads > 1:
        step = -(-count // (threads * _SLICES))
        list(_pool(threads).map(some, range(0, count, step), [*range(step, count, step), count]))
    else:
        some(0, count)
    return torch.from_numpy(out).permute(0, 3, 1, 2).unflatten(0, (len(views), len(image_BHWC)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="views")


if hasattr(os, "register_at_fork"):  # a forked process inherits the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
