"""Counted randomness: every draw is a function of (run seed, stage, step, rank), so resuming needs no generator state."""

import torch
from torch import Tensor

_MASK = 2**64 - 1


def fold(seed: int, *counters: int) -> int:
    """Mix integers into one 63-bit seed with splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    x = seed & _MASK
    for counter in counters:
        x = (x ^ (counter + 0x9E3779B97F4A7C15)) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return x >> 1


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` that starts at `seed`."""
    return torch.Generator(device).manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seed the default generators of the CPU and of the current accelerator.

    Not `torch.manual_seed`: that walks over every backend and costs about 100 us a step where CUDA is absent.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)


def deal(index_B: Tensor, step: int, hands: int) -> Tensor:
    """A number below `hands` for each sample (B,), a pure function of its row in the data and of the step.

    Drawn by hashing (the mixer of fold), so that a sample gets the same on any number of ranks.
    """
    x_B = (index_B + fold(0, step) // 2) * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as int64, which wraps
    x_B = (x_B ^ (x_B >> 30)) * -0x40A7B892E31B1A47
    x_B = (x_B ^ (x_B >> 27)) * -0x6B2FB644ECCEEE15
    return (x_B ^ (x_B >> 31)) % hands
