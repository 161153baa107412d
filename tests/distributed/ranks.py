"""What runs on every rank: each method on its part of one global batch, then a few steps of the engine."""

import importlib
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from nolabel.core import Clock
from nolabel.core.dist import gather
from nolabel.core.random import generator, seed_all
from nolabel.views.masks import random_mask
from tests.support import Access, Feed, Noise, build

BATCH = 16


def without_batch_norm(net: nn.Module) -> nn.Module:
    """Batch norms become the identity: their statistics are those of the rank, by design, and would hide the rest."""
    for name, child in net.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(net, name, nn.Identity())
        else:
            without_batch_norm(child)
    return net


def shared_masks(rank: int, world: int) -> None:
    """Masks are drawn for the global batch and dealt out, so that a sample has the same mask on any number of ranks."""

    def dealt(batch, length, ratio, rng=None, device=None):
        keep, hide = random_mask(batch * world, length, ratio, generator(123), device)
        part = slice(rank * batch, (rank + 1) * batch)
        return keep[part], hide[part]

    importlib.import_module("nolabel.methods.masked.mae").random_mask = dealt


def part_of(views: dict, rank: int, world: int) -> dict:
    """The rows of one rank; crops of one size are stacked before the batch axis."""

    def cut(x):
        axis = 0 if len(x) == BATCH else 1
        return x.chunk(world, axis)[rank]

    return {k: cut(v) for k, v in views.items()}


def one_step(name: str, rank: int = 0, world: int = 1) -> dict:
    """Loss and gradients of one global batch, averaged over ranks as data-parallel training does, and the state after."""
    method = without_batch_norm(build(name, encoder="tiny_tokens"))
    noise = Noise.of(method, batch=BATCH)
    t = Clock(5, 50, noise.epoch_steps)
    seed_all(3)
    method.begin_stage(t, Access(noise, method.views.plain))
    method.begin_epoch(t, Access(noise, method.views.plain))
    method.train()
    shared_masks(rank, world)
    with torch.no_grad():
        views = part_of(method.views(noise.at(0, 0), generator(4)), rank, world)
    groups = {id(p) for ps in method.groups(t).values() for p in ps}
    total = 0.0
    for turn in method.turns:
        for p in method.parameters():
            p.requires_grad_(id(p) in groups)
        seed_all(9)
        loss, _ = method(views, Clock(5, 50, noise.epoch_steps, 0, turn))
        loss.backward()
        total = total + loss.detach()
    grads = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    if world > 1:
        dist.all_reduce(total)
        total = total / world
        for g in grads.values():
            dist.all_reduce(g)
            g /= world
    with torch.no_grad():
        method.after_step(t)
    return {"loss": total, "grads": grads, "buffers": dict(method.named_buffers())}


def few_steps(name: str, rank: int, world: int) -> float:
    """The largest difference between ranks, over weights and buffers, after three steps of the engine."""
    from nolabel.engine import Run, Settings

    method = build(name)
    source = Noise.of(method, batch=BATCH)

    class Part(Feed):
        def __next__(self):
            return {k: v.chunk(world)[rank] for k, v in super().__next__().items()}

    settings = Settings(steps=3, batch=BATCH, precision="fp32", log_every=2)
    run = Run(
        method, source, settings, feed=lambda s, start: Part(source, s, start), data=Access(source, method.views.plain)
    )
    run.train()
    worst = 0.0
    for key, value in method.state_dict().items():
        if value.is_floating_point() and "running_" not in key:
            everyone = gather(value.detach().float().reshape(1, -1).clone())
            worst = max(worst, float((everyone - everyone[:1]).abs().max()))
    return worst


def worker(rank: int, world: int, folder: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for name in names:
        result: dict = {}
        try:
            result = {"step": one_step(name, rank, world), "worst": few_steps(name, rank, world)}
        except Exception as error:  # reported by the test of this method, the others go on
            result = {"error": repr(error)}
        if rank == 0:
            torch.save(result, Path(folder) / f"{name}.pt")
        dist.barrier()
    dist.destroy_process_group()
