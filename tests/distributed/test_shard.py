"""Sharded over two processes a method trains as it does under DDP, and its checkpoints load on any number of them."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nolabel.core import UserError
from nolabel.engine import Checkpoints, Run
from nolabel.engine.checkpoint import joined
from nolabel.engine.monitor import Monitor
from nolabel.engine.shard import gathered, part_of
from tests.processes import ranks
from tests.support import Feed, build, run

NAMES = ("simclr", "dino", "mae")
"""a convolutional one, one with a running average and gradients clipped one by one, and one of tokens"""
WORLD = 2


def halves(name: str, **settings) -> Run:
    """A run in which each rank takes its part of the batch."""
    made = run(name, **settings)

    class Part(Feed):
        def __next__(self):
            return {k: v.chunk(WORLD)[dist.get_rank()] for k, v in super().__next__().items()}

    source = made.source
    made.feed = lambda seed, start: Part(source, seed, start)
    return made


def everything(r: Run) -> dict:
    """Weights and moments, whole."""
    state = r.state_dict()
    return gathered({"method": state["method"], "optims": state["optims"]})


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {}
    for name in NAMES:
        place = Path(folder) / name
        ddp = halves(name)
        ddp.train()
        found[f"{name} ddp"] = everything(ddp)
        sharded = halves(name, shard=True, folder=place)
        plain = sharded.method.views.plain(sharded.source.at(0, 0))
        sharded.observers = [Monitor(plain, tell=lambda line: None)] if rank == 0 else []
        sharded.train(until=3)
        sharded.save()
        found[f"{name} at 3"] = everything(sharded)
        single = Checkpoints(Path(folder) / "single" / name / "checkpoints")
        if rank == 0:
            single.save(0, 3, Checkpoints(place / "checkpoints").load())
        dist.barrier()
        own = sum(p.to_local().numel() for p in sharded.method.parameters())
        found[f"{name} share"] = own / sum(p.numel() for p in sharded.method.parameters())
        again = halves(name, shard=True, folder=place, method=build(name, seed=77))
        assert again.resume()
        again.train()
        found[f"{name} sharded"] = everything(again)
        back = halves(name, shard=True, method=build(name, seed=78))
        back.load_state_dict(single.load())
        found[f"{name} back"] = everything(back)
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("shard")
    ranks(worker, WORLD, str(place))
    return place


@pytest.fixture(scope="module")
def found(folder):
    return torch.load(folder / "found.pt", weights_only=True)


def alike(a, b, rtol=0.0, atol=0.0):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            alike(a[key], b[key], rtol, atol)
    elif isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_sharded_equals_ddp(name, found):
    alike(found[f"{name} sharded"]["method"], found[f"{name} ddp"]["method"], rtol=1e-5, atol=1e-6)
    assert found[f"{name} share"] < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_saved_on_two_loads_on_one_and_back(name, found, folder):
    checkpoints = Checkpoints(folder / name / "checkpoints")
    assert all(".1of2." in p.name and len(checkpoints.parts(p)) == 2 for p in checkpoints.found())
    (first, *_) = checkpoints.found()
    alone = run(name, method=build(name, seed=79))
    alone.load_state_dict(joined([torch.load(p, weights_only=True) for p in checkpoints.parts(first)]))
    assert alone.step == 3
    alike(everything(alone), found[f"{name} at 3"])
    whole = run(name, folder=folder / "single" / name, method=build(name, seed=80))
    assert whole.resume()
    alike(everything(whole), found[f"{name} at 3"])
    alike(found[f"{name} back"], found[f"{name} at 3"])


def test_parts_of_a_state_are_plain_and_join(tmp_path):
    parts = [{"w": {"shard": torch.full((2, 3), float(i))}, "n": 7, "l": [torch.ones(1)]} for i in range(2)]
    whole = joined(parts)
    assert whole["w"].shape == (4, 3) and whole["w"][2:].eq(1).all() and whole["n"] == 7
    assert part_of({"x": torch.ones(2), "s": "text"})["s"] == "text"
    checkpoints = Checkpoints(tmp_path, keep=1)
    first = [checkpoints.save(0, 4, part, i, 2) for i, part in enumerate(parts)]
    checkpoints.save(0, 8, parts[0], 0, 2)
    assert checkpoints.found() == first[:1], "half a checkpoint is none"
    assert torch.equal(checkpoints.load()["w"], whole["w"])
    last = checkpoints.save(0, 8, parts[1], 1, 2)
    checkpoints.prune(last)
    assert len(checkpoints.found()) == 1 and len(list(tmp_path.glob("step-*.pt"))) == 2
    told = []
    last.write_bytes(b"damaged")
    with pytest.raises(UserError, match="intact"):
        checkpoints.load(told.append)
    assert "2of2" in told[0]


def test_a_method_whose_trained_weights_change_is_refused():
    from nolabel.engine.shard import shard
    from tests.unit.test_engine import Game, Layers

    for kind in (Game, Layers):
        with pytest.raises(UserError, match="one turn and one stage"):
            shard(kind())
