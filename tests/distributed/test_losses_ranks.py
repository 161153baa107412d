"""Two processes give the loss, the gradient, the codes and the memory of one: all cases in one pool."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.dist import rank, world
from nolabel.losses.cluster import sinkhorn, swap
from nolabel.losses.contrastive import (
    clip,
    info_nce,
    info_nce_batch,
    info_nce_distinct,
    info_nce_places,
    margin_batch,
    margin_pair,
    nce,
    nt_xent,
    sup_con,
    triplet,
    triplet_batch,
)
from nolabel.losses.distill import cross_entropy_soft, distill, kl, koleo, negative_cosine
from nolabel.losses.information import mutual_information, place_scores
from nolabel.losses.redundancy import barlow_twins, directions, sigreg, vicreg
from nolabel.networks.batchnorm import shuffled
from nolabel.networks.memory import MemoryBank, Queue
from tests.processes import ranks

WORLD, N = 2, 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def local(x: Tensor) -> Tensor:
    """This rank's rows of the global batch."""
    return x.chunk(world())[rank()]


LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 4, 4])  # the first rank holds no anchor with a positive within its rows
THINGS = torch.tensor([0, 1, 2, 3, 1, 0, 0, 1])  # the ranks hold three and two keys of something
KEYS = F.normalize(draw(9, 5, seed=9), dim=1)
WHERE = directions(5, 6, torch.Generator().manual_seed(0)).double()

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.2)[0],
    "info_nce": lambda a, b: info_nce(a, b, KEYS, 0.2)[0],
    "info_nce_batch": lambda a, b: info_nce_batch(a, b, 0.2)[0],
    "info_nce_batch_targets": lambda a, b: info_nce_batch(a, b.detach(), 0.2)[0],
    "clip": lambda a, b: clip(a, b, 4.0)[0],
    "sup_con": lambda a, b: sup_con(a, local(LABELS), 0.2),
    "margin_pair": lambda a, b: margin_pair(a, b, local(LABELS) == 4, 3.0)[0],
    "triplet": lambda a, b: triplet(a, b, b.flip(1))[0],
    "nce": lambda a, b: nce(a, b, KEYS, 0.2, 1.3)[0],
    "sup_con_inside": lambda a, b: sup_con(a, local(LABELS), 0.2, inside=True),
    "margin_batch": lambda a, b: margin_batch(a, b, 3.0)[0],
    **{f"triplet_{m}": (lambda a, b, m=m: triplet_batch(a, b, 1.0, m)[0]) for m in ("semi", "hardest", "all")},
    **{
        f"information_{bound}": (
            lambda a, b, bound=bound: mutual_information(place_scores(a, torch.stack((b, a * b), 1)), bound)[0]
        )
        for bound in ("jsd", "dv", "nce")
    },
    "info_nce_places": lambda a, b: info_nce_places(a, b, torch.arange(len(a)))[0],
    "info_nce_distinct": lambda a, b: info_nce_distinct(a, b, torch.arange(len(a)), local(THINGS))[0],
    "negative_cosine": negative_cosine,
    "cross_entropy_soft": lambda a, b: cross_entropy_soft(a, b.softmax(-1)),
    "distill": lambda a, b: distill([a, b, a + b], [b.softmax(-1), a.softmax(-1)], 0.5),
    "kl": lambda a, b: kl(a, b, 2.0),
    "koleo": lambda a, b: koleo(a),
    "barlow_twins": lambda a, b: barlow_twins(a, b, 0.1)[0],
    "barlow_twins_gram": lambda a, b: barlow_twins(torch.cat((a, a * b), 1), torch.cat((b, a * b), 1), 0.1)[0],
    "vicreg": lambda a, b: vicreg(a, b)[0],
    "vicreg_gram": lambda a, b: vicreg(torch.cat((a, a * b), 1), torch.cat((b, a * b), 1))[0],
    "sigreg": lambda a, b: sigreg(torch.stack((a, b)), WHERE),
    "swap": lambda a, b: swap([a, b, a + b], [sinkhorn(a), sinkhorn(b)]),
}


def look() -> dict[str, Tensor]:
    """Losses and gradients of a linear network on this rank's rows, averaged over ranks as in training."""
    found = {}
    for name, loss in LOSSES.items():
        weight = draw(5, 4, seed=3).requires_grad_()
        a, b = (local(draw(N, 4, seed=s)) @ weight.T for s in (1, 2))
        value = loss(a, b)
        (grad,) = torch.autograd.grad(value, weight)
        both = torch.cat((value.detach().reshape(1), grad.flatten()))
        if world() > 1:
            dist.all_reduce(both)
        found[name] = both / world()
    found["sinkhorn"] = sinkhorn(local(draw(N, 5, seed=4)), 0.3)
    torch.manual_seed(0)
    queue, bank = Queue(5, 4), MemoryBank(12, 4)
    for step in range(3):
        queue.enqueue(local(draw(N, 4, seed=step)))
        order = torch.randperm(12, generator=torch.Generator().manual_seed(step))[:N]
        bank.update(local(order), local(draw(N, 4, seed=step)))
    torch.manual_seed(rank())  # rank 0's permutation is that of all
    mixed = shuffled(lambda x: x + rank(), local(draw(N, 4, seed=5)))
    return found | {"queue": queue.ordered(), "bank": bank.rows, "shuffled": mixed}


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=process, world_size=WORLD)
    try:
        torch.save(look(), f"{folder}/{process}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    ranks(work, WORLD, str(folder))
    return look(), [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(WORLD)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_are_one(name: str, found: tuple[dict[str, Tensor], list[dict[str, Tensor]]]) -> None:
    one, two = found
    for rank_ in two:
        torch.testing.assert_close(rank_[name], one[name], rtol=1e-7, atol=1e-9)


def test_codes_of_two_ranks_are_those_of_one(found: tuple[dict[str, Tensor], list[dict[str, Tensor]]]) -> None:
    one, two = found
    torch.testing.assert_close(torch.cat([r["sinkhorn"] for r in two]), one["sinkhorn"])


def test_shuffled_samples_come_home(found: tuple[dict[str, Tensor], list[dict[str, Tensor]]]) -> None:
    one, two = found
    went = torch.cat([r["shuffled"] for r in two]) - one["shuffled"]  # the rank that a sample was encoded on
    torch.testing.assert_close(went, went.round())  # sums and differences round
    went = went.round()
    assert went[:, 0].sum() == N // 2 and torch.equal(went, went[:, :1].expand(-1, 4))
    assert not torch.equal(went[: N // 2, 0], torch.zeros(N // 2, dtype=torch.double))  # some went abroad


@pytest.mark.parametrize("name", ["queue", "bank"])
def test_memories_are_alike_on_all_ranks(name: str, found: tuple[dict[str, Tensor], list[dict[str, Tensor]]]) -> None:
    one, two = found
    for rank_ in two:
        assert torch.equal(rank_[name], two[0][name])
        torch.testing.assert_close(rank_[name], one[name])
