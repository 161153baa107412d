"""Numbers that stay the same, on the device where they are needed."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(256)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers, nested tuples for more axes, as a tensor that is not to be changed in place.

    It is copied to the device once: the host waits for every copy.
    """
    return torch.tensor(values, dtype=dtype, device=device)
