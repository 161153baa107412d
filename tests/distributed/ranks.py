"""What runs on every rank: each method on its part of one global batch, then a few steps of the engine."""

import inspect
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nolabel import methods
from nolabel.core import Clock, labelled_rows
from nolabel.core.dist import gather
from nolabel.core.random import generator, seed_all
from tests.support import Access, Feed, Noise, build, mask_makers

BATCH = 16
LATER = {"avid": {"instance": 0.0}, "local_aggregation": {"instance_epochs": 0}}
"""fields with which a method is at once in its later phase; `few_steps` has the first one"""


def without_batch_norm(net: nn.Module) -> nn.Module:
    """Batch norms become the identity: their statistics are those of the rank, by design, and would hide the rest.

    Dropout is off: its draws are those of the rank.
    """
    for name, child in net.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(net, name, nn.Identity())
        elif isinstance(child, nn.Dropout):
            child.p = 0.0
        else:
            without_batch_norm(child)
    return net


@contextmanager
def shared_draws(rank: int, world: int, known: int):
    """What torch draws for each sample is drawn for the global batch and dealt out, so that a sample has the same mask
    or noise on any number of ranks. Draws for other things than samples are alike on all ranks anyway.
    """
    rows = {BATCH // world, known // world, (BATCH - known) // world} - {0}
    real = {name: getattr(torch, name) for name in ("rand", "randn", "randint", "rand_like", "randn_like")}

    def dealt(draw):
        def of_rank(*args, **options):
            *before, shape = args if isinstance(args[-1], tuple | list) else ((), args)
            if options.get("generator") is None and shape and shape[0] in rows:
                whole = draw(*[x for x in before if x != ()], (shape[0] * world, *shape[1:]), **options)
                return rows_of(whole, rank, world, known if len(whole) == BATCH else 0)
            return draw(*args, **options)

        return of_rank

    def like(draw):
        return lambda x, **options: dealt(draw)(tuple(x.shape), **{"dtype": x.dtype, "device": x.device, **options})

    for name in ("rand", "randn", "randint"):
        setattr(torch, name, dealt(real[name]))
    torch.rand_like, torch.randn_like = like(real["rand"]), like(real["randn"])
    try:
        yield
    finally:
        for name, draw in real.items():
            setattr(torch, name, draw)


PARTS = 4
"""masks are drawn for this many parts of the global batch: as many as there are ranks at most"""


@contextmanager
def shared_masks(name: str, rank: int, world: int):
    """Masks are drawn for parts of the global batch and dealt out: a sample has the same on any number of ranks."""
    module, calls, mine = (
        inspect.getmodule(methods.load(name).forward),
        [0],
        range(PARTS * rank // world, PARTS * (rank + 1) // world),
    )

    def dealt(make):
        def draw(*args, **kwargs):
            given = inspect.signature(make).bind(*args, **kwargs).arguments
            calls[0] += 1
            parts = []
            for part in mine:
                rng = generator(1000 * calls[0] + part)
                parts.append(make(**{**given, "batch": given["batch"] // len(mine), "rng": rng}))
            if isinstance(parts[0], torch.Tensor):
                return torch.cat(parts)
            return tuple(torch.cat(pieces) for pieces in zip(*parts))

        return draw

    with pytest.MonkeyPatch.context() as patch:
        for key, make in mask_makers(name).items():
            patch.setattr(module, key, dealt(make))
        yield


def rows_of(x: torch.Tensor, rank: int, world: int, known: int, axis: int = 0) -> torch.Tensor:
    """The rows of one rank: its part of the first `known`, which have a label, then its part of the others."""
    kinds = x.split((known, x.shape[axis] - known), axis)
    return torch.cat([kind.chunk(world, axis)[rank] for kind in kinds if kind.shape[axis]], axis)


def part_of(batch: dict, rank: int, world: int, labelled: float = 0.0) -> dict:
    """The rows of one rank, its part of those with a label first; crops of one size are stacked before the batch axis."""
    known = labelled_rows(labelled, BATCH)
    return {k: rows_of(v, rank, world, known, 0 if len(v) == BATCH else 1) for k, v in batch.items()}


def one_step(name: str, rank: int = 0, world: int = 1) -> dict:
    """Loss and gradients of one global batch, averaged over ranks as data-parallel training does, and the state after."""
    method = without_batch_norm(build(name, encoder="tiny_tokens", **LATER.get(name, {})))
    noise = Noise.of(method, batch=BATCH)
    t = Clock(5, 50, noise.epoch_steps)
    seed_all(3)
    method.begin_stage(t, Access(noise, method.views.plain))
    method.begin_epoch(t, Access(noise, method.views.plain))
    method.train()
    with torch.no_grad():
        views = part_of(method.views(noise.at(0, 0), generator(4)), rank, world, method.labelled)
    groups = {id(p) for ps in method.groups(t).values() for p in ps}
    total = 0.0
    for turn in method.turns:
        for p in method.parameters():
            p.requires_grad_(id(p) in groups)
        seed_all(9)
        with shared_draws(rank, world, labelled_rows(method.labelled, BATCH)), shared_masks(name, rank, world):
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
            return part_of(super().__next__(), rank, world, method.labelled)

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
