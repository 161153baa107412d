"""Losses, forward and backward, against lightly: `python -m bench.losses`.

Times are interleaved in this process; extra peak memory is measured in a fresh process for each side.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.harness import Row, compare, installed
from nolabel.losses.cluster import sinkhorn
from nolabel.losses.contrastive import info_nce, info_nce_batch, nt_xent
from nolabel.losses.redundancy import barlow_twins, directions, sigreg, vicreg
from nolabel.networks.memory import Queue

BENCH = "losses"


def leaves(rows: int, dim: int, device: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    a, b = torch.randn(2, rows, dim, device=device)
    return a.requires_grad_(), b.requires_grad_()


def step(loss: Callable[[], Tensor], *inputs: Tensor) -> Callable[[], None]:
    """One forward and backward, waited for."""

    def call() -> None:
        torch.autograd.grad(loss(), inputs)
        wait(inputs[0])

    return call


def look(call: Callable[[], Tensor]) -> Callable[[], None]:
    """One call without gradient, waited for."""

    def run() -> None:
        wait(call())

    return run


def wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def contrastive(device: str, quick: bool) -> list[Row]:
    found = []
    for n, rounds in ((256, 21), (1024, 7)) if quick else ((256, 21), (1024, 7), (8192, 2)):
        a, b = leaves(n, 128, device)
        peers = {}
        if installed("lightly"):
            from lightly.loss import NTXentLoss

            peers["lightly"] = step(partial(NTXentLoss(0.1), a, b), a, b)
        for precision in ("full", "bf16"):
            ours = step(lambda a=a, b=b, p=precision: nt_xent(a, b, 0.1, p)[0], a, b)
            case = f"nt_xent N={n} D=128 {precision}"
            found += compare(BENCH, case, ours, peers, work=n, unit="pairs", rounds=rounds, warmup=n < 8192)
    return found


def bank(device: str, quick: bool) -> list[Row]:
    """MoCo: the loss and then the enqueuing; NNCLR: the look-up and then the enqueuing."""
    size, found = (16384 if quick else 65536), []
    q, k = leaves(256, 128, device)
    k = k.detach()
    z = torch.randn(256, 256, device=device)
    moco, nnclr = {}, {}
    if installed("lightly"):
        from lightly.loss import NTXentLoss
        from lightly.models.modules import NNMemoryBankModule

        loss = NTXentLoss(0.1, memory_bank_size=(size, 128)).to(device)
        moco["lightly"] = step(lambda: loss(q, k), q)
        neighbours = NNMemoryBankModule(size=(size, 256)).to(device)
        nnclr["lightly"] = look(lambda: neighbours(z, update=True))
    for name, dtype in (("full", torch.float32), ("bf16", torch.bfloat16)):
        keys, support = Queue(size, 128, dtype).to(device), Queue(size, 256, dtype).to(device)

        def contrast(keys: Queue = keys) -> Tensor:
            loss, _ = info_nce(q, k, keys.rows, 0.1)
            keys.enqueue(k)
            return loss

        def nearest(support: Queue = support) -> Tensor:
            rows = support.nearest(z)
            support.enqueue(z)
            return rows

        case = f"{size}x{{}} B=256 {name}"
        found += compare(BENCH, "moco " + case.format(128), step(contrast, q), moco, work=256, unit="queries", rounds=5)
        found += compare(BENCH, "nnclr " + case.format(256), look(nearest), nnclr, work=256, unit="queries", rounds=5)
    return found


def redundancy(device: str, quick: bool) -> list[Row]:
    found = []
    for n, d in ((256, 2048),) if quick else ((256, 8192), (256, 2048), (2048, 2048), (4096, 1024)):
        a, b = leaves(n, d, device)
        barlow, vic = {}, {}
        if installed("lightly"):
            from lightly.loss import BarlowTwinsLoss, VICRegLoss

            barlow["lightly"] = step(partial(BarlowTwinsLoss(), a, b), a, b)
            vic["lightly"] = step(partial(VICRegLoss(), a, b), a, b)
        rounds = 3 if d > 2048 else 5
        for name, loss, peers in (("barlow_twins", barlow_twins, barlow), ("vicreg", vicreg, vic)):
            ours = step(lambda f=loss, a=a, b=b: f(a, b)[0], a, b)
            found += compare(
                BENCH, f"{name} N={n} D={d}", ours, peers, work=n, unit="pairs", rounds=rounds, warmup=d < 8192
            )
    z_VBD = torch.randn(4, 256, 64, device=device, requires_grad=True)
    where_DS = directions(64, 1024, torch.Generator().manual_seed(0)).to(device)
    peers = {"plain autograd": step(lambda: plain_sigreg(z_VBD, where_DS), z_VBD)}
    ours = step(lambda: sigreg(z_VBD, where_DS), z_VBD)
    return found + compare(BENCH, "sigreg V=4 B=256 S=1024", ours, peers, work=1024, unit="rows", rounds=5)


def plain_sigreg(z_VBD: Tensor, where_DS: Tensor) -> Tensor:
    """SIGReg as its paper's listing has it: all knots at once."""
    t_K = torch.linspace(0, 3, 17, device=z_VBD.device)
    target_K = torch.exp(-t_K.square() / 2)
    weight_K = torch.full_like(t_K, 6 / 16)
    weight_K[[0, -1]] /= 2
    angle = (z_VBD @ where_DS)[..., None] * t_K
    error = (angle.cos().mean(1) - target_K).square() + angle.sin().mean(1).square()
    return (error @ (weight_K * target_K)).mean() * z_VBD.shape[1]


def codes(device: str, quick: bool) -> list[Row]:
    found = []
    for b, k in ((512, 3000),) if quick else ((512, 3000), (4352, 3000), (512, 16384)):
        scores = torch.randn(b, k, device=device).div_(10)
        peers = {}
        if installed("lightly"):
            from lightly.loss.swav_loss import sinkhorn as theirs

            peers["lightly"] = look(partial(theirs, scores))
        ours = look(partial(sinkhorn, scores))
        found += compare(BENCH, f"sinkhorn {b}x{k}", ours, peers, work=b, unit="rows", rounds=9)
    return found


OURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1)[0],
    "moco_v3": lambda a, b: info_nce_batch(a, b.detach(), 0.1)[0] + info_nce_batch(b, a.detach(), 0.1)[0],
    "barlow_twins": lambda a, b: barlow_twins(a, b)[0],
    "vicreg": lambda a, b: vicreg(a, b)[0],
}
"""what is measured at large batches"""


def extra_mb(who: str, n: int, dim: int, device: str) -> float:
    """Extra peak memory in MiB of one step of a loss on N pairs of `dim` numbers, by a fresh process."""
    code = f"from bench.losses import measure; measure({who!r}, {n}, {dim}, {device!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident_mb(field: str) -> float:
    """`VmRSS` or its peak `VmHWM` of this process in MiB (Linux). `ru_maxrss` would start at the parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(who: str, n: int, dim: int, device: str) -> None:
    if who == "lightly":
        from lightly.loss import NTXentLoss

        loss = NTXentLoss(0.1)
    else:
        loss = OURS[who]
    small, (a, b) = leaves(256, dim, device), leaves(n, dim, device)
    step(lambda: loss(*small), *small)()  # loads the libraries
    on_cpu = device == "cpu"
    if not on_cpu:
        torch.cuda.reset_peak_memory_stats()
    before = resident_mb("VmRSS") if on_cpu else torch.cuda.max_memory_allocated() / 2**20
    step(lambda: loss(a, b), a, b)()
    after = resident_mb("VmHWM") if on_cpu else torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(after - before))


def memory(device: str, quick: bool) -> list[Row]:
    found: list[Row] = []
    for n in (4096,) if quick else (8192, 32768):
        row = {"bench": BENCH, "case": f"nt_xent N={n} D=128 extra memory", "unit": "MiB", "rounds": 1}
        ours = extra_mb("nt_xent", n, 128, device)
        if n > 8192 or not installed("lightly"):
            found.append({**row, "ours": ours, "peer": None, "peer_name": "-", "ratio": None})
            continue
        peer = extra_mb("lightly", n, 128, device)
        found.append({**row, "ours": ours, "peer": peer, "peer_name": "lightly", "ratio": peer / ours})
    for who in () if quick else OURS:
        for dim in (128, 2048, 8192):
            row = {"bench": BENCH, "case": f"{who} N=4096 D={dim} extra memory", "unit": "MiB", "rounds": 1}
            ours = extra_mb(who, 4096, dim, device)
            found.append({**row, "ours": ours, "peer": None, "peer_name": "-", "ratio": None})
    return found


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """All cases. `ratio` is our rate over the peer's, or for memory the peer's over ours: above 1 ours is better."""
    parts = (contrastive, bank, redundancy, codes, memory)
    return [row for part in parts for row in part(device, quick)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in rows(quick="--quick" in sys.argv):
        peer = "-" if row["peer"] is None else f"{row['peer']:12.1f} {row['peer_name']} {row['ratio']:7.2f}x"
        print(f"{row['case']:40} {row['ours']:12.1f} {row['unit']:10} {peer}", flush=True)
