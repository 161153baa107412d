"""What the engine costs a step over a bare loop: order, seeds, clock, schedules, finiteness check, logs every 50 steps."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from bench.harness import Row
from nolabel.core import DataInfo, Method, Optim
from nolabel.engine import Run, Settings

STEPS, BATCH, DIM = 2000, 8, 32


@dataclass(frozen=True)
class AsIs:
    def __call__(self, batch, rng):
        return batch


class Toy(Method):
    views: AsIs = AsIs()
    optim: Optim = Optim("sgd", lr=1e-3, momentum=0.0, weight_decay=0.0, scaled=False, warmup_epochs=0)

    def build(self, data, net):
        self.encoder = net

    def forward(self, views, t):
        loss = self.encoder(views["x"]).square().mean()
        return loss, {"a": loss.detach(), "b": loss.detach()}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, 1))


class Rows:
    def __init__(self) -> None:
        self.x = torch.randn(STEPS * BATCH, DIM)
        self.batch, self.epoch_steps, self.info = BATCH, STEPS, DataInfo(len(self.x))

    def at(self, seed, step):
        return {"x": self.x[step * BATCH :][:BATCH]}


class Feed:
    waited = 0.0

    def __init__(self, rows, start):
        self.rows, self.step = rows, start

    def __next__(self):
        self.step += 1
        return self.rows.at(0, self.step - 1)

    def close(self):
        pass


def bare(rows: Rows) -> float:
    """Seconds of the loop that everybody writes."""
    net = network()
    optim = torch.optim.SGD(net.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for step in range(STEPS):
        loss = net(rows.at(0, step)["x"]).square().mean()
        loss.backward()
        optim.step()
        optim.zero_grad()
    return time.perf_counter() - start


def ours(rows: Rows) -> float:
    """Seconds of the engine on the same network and batches."""
    method = Toy()
    method.build(rows.info, network())
    settings = Settings(steps=STEPS, batch=BATCH, precision="fp32")
    run = Run(method, rows, settings, feed=lambda seed, start: Feed(rows, start))
    start = time.perf_counter()
    run.train()
    return time.perf_counter() - start


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Microseconds a step, and the difference to the bare loop."""
    torch.set_num_threads(1)
    data = Rows()
    pairs = [(ours(data), bare(data)) for _ in range(3 if quick else 7)][1:]
    engine, loop = (1e6 * statistics.median(side) / STEPS for side in zip(*pairs))
    over = 1e6 * statistics.median(a - b for a, b in pairs) / STEPS
    return [
        {"bench": "engine", "case": "tiny MLP step, logs every 50", "ours": engine, "peer": loop, "peer_name": "bare loop",
         "ratio": loop / engine, "unit": "us/step", "rounds": len(pairs)},
        {"bench": "engine", "case": "overhead of the engine", "ours": over, "peer": None, "peer_name": "-", "ratio": None,
         "unit": "us/step", "rounds": len(pairs)},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in rows():
        print(f"{row['case']:40s} {row['ours']:8.1f} {row['unit']}  {row['peer_name']} {row['peer'] or ''}")
