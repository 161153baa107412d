"""Image views on the CPU, one at a time so that a view stays in the cache from its bytes to its normalised floats.

Threads are our own, over slices of the batch, because a second OpenMP beside torch's makes both slow; the kernel holds
no lock of Python.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nolabel.views import cpu_kernels
from nolabel.views.draw import Draws, channel_stats

if TYPE_CHECKING:
    from nolabel.views.image import OneView

_SLICES = 4  # for each thread, because views cost unequal time


def render(image_BHWC: Tensor, view: "OneView", draws: Draws, threads: int | None = None) -> Tensor:
    """uint8 (B, H, W, C), N draws -> float32 (N, C, S, S), channels last in memory.

    On `threads` threads, torch.get_num_threads() unless given.
    """
    count, channels = len(draws.flip), image_BHWC.shape[3]
    out = _outputs.empty((count, view.size, view.size, channels))
    mean, std = (np.array(s, np.float32) for s in channel_stats(view.mean, view.std, channels))
    image = image_BHWC.numpy().reshape(-1), tuple(image_BHWC.shape)
    columns = [t.numpy() for t in draws]

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
    return torch.from_numpy(out).permute(0, 3, 1, 2)


class _Outputs:
    """Arrays that are used again once no tensor looks at them: fresh memory costs as much time as the views in it."""

    def __init__(self, most: int) -> None:
        self.most, self.lock, self.arrays = most, threading.Lock(), [np.empty(0, np.float32)]
        self.idle = sys.getrefcount(self.arrays[0])  # every tensor made from an array adds a reference

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """A float32 array with undefined contents."""
        with self.lock:
            for i in range(len(self.arrays)):
                if self.arrays[i].shape == shape and sys.getrefcount(self.arrays[i]) == self.idle:
                    self.arrays.append(self.arrays.pop(i))
                    return self.arrays[-1]
            self.arrays = [*self.arrays, np.empty(shape, np.float32)][-self.most :]
            return self.arrays[-1]


_outputs = _Outputs(most=8)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="views")


if hasattr(os, "register_at_fork"):  # a forked process inherits the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
