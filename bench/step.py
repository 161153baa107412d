"""One training step of SimCLR: ours (bf16 where fast, channels-last, one forward, memory kept) beside lightly's pattern.

The peer's step is the one of its examples: two forwards in float32 and NCHW, NTXentLoss, SGD, glibc's defaults. Our memory
setting cannot be undone in a process, so both sides of the allocator's part are measured in processes of their own.
"""

import json
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from bench.harness import Row, installed

CASES = {
    # name: encoder, batch, threads, steps
    "SimCLR step, ResNet-18 small stem, batch 256, 2 threads": ("resnet18", 256, 2, 2),
    "SimCLR step, ResNet-18 small stem, batch 64, 1 thread": ("resnet18", 64, 1, 3),
    "SimCLR step, tiny, batch 256, 1 thread": ("tiny", 256, 1, 8),
}


def ours(encoder: str, batch: int, steps: int) -> list[float]:
    """Seconds of each step, after one warm-up."""
    from nolabel import methods
    from nolabel.core import Clock, DataInfo, Optim
    from nolabel.encoders import image_encoder
    from nolabel.engine.precision import autocast_dtype, keep_freed_memory
    from nolabel.optim import optimizer

    keep_freed_memory()
    optim = Optim("sgd", lr=0.06, weight_decay=5e-4)
    method = methods.load("simclr")(hidden=512, optim=optim)
    method.build(DataInfo(50_000), image_encoder(encoder, 32))
    method.to(memory_format=torch.channels_last)
    sgd, t = optimizer(optim, method.parameters()), Clock(0, 100, 100)
    views = {k: torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last) for k in "ab"}
    dtype = autocast_dtype(torch.device("cpu"), "auto")

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss, _ = method(views, t)
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    return timed(step, steps)


def lightly(encoder: str, batch: int, steps: int) -> list[float]:
    """The same network in the pattern of lightly's SimCLR example."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    from nolabel.encoders import image_encoder

    net = image_encoder(encoder, 32)
    model = nn.Sequential(net, SimCLRProjectionHead(net.dim, 512, 128))
    criterion, sgd = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4)
    a, b = torch.randn(batch, 3, 32, 32), torch.randn(batch, 3, 32, 32)

    def step() -> None:
        loss = criterion(model(a), model(b))
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    return timed(step, steps)


def timed(step, steps: int) -> list[float]:
    step()
    took = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    return took


def apart(side: str, encoder: str, batch: int, threads: int, steps: int) -> float:
    """Median seconds of a step, in a fresh process."""
    code = (
        f"import torch, json; torch.set_num_threads({threads}); from bench.step import {side}; "
        f"print('TOOK', json.dumps({side}({encoder!r}, {batch}, {steps})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return statistics.median(json.loads(done.stdout.split("TOOK", 1)[1]))


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    found = []
    for case, (encoder, batch, threads, steps) in CASES.items():
        rounds = 1 if quick else 3
        sides = ("ours", "lightly") if installed("lightly") else ("ours",)
        took: dict[str, list[float]] = {side: [] for side in sides}
        for i in range(rounds):
            for side in sides if i % 2 == 0 else reversed(sides):
                took[side].append(apart(side, encoder, batch, threads, steps))
        views = 2 * batch
        row = {"bench": "step", "case": case, "ours": views / statistics.median(took["ours"]), "unit": "views/s",
               "rounds": rounds, "peer": None, "peer_name": "-", "ratio": None}  # fmt: skip
        if "lightly" in took:
            row |= {
                "peer": views / statistics.median(took["lightly"]),
                "peer_name": "lightly's example step",
                "ratio": statistics.median(p / o for o, p in zip(took["ours"], took["lightly"])),
            }
        found.append(row)
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
