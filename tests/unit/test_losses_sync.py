"""No loss and no memory waits for the device: nothing reads a value or makes a shape that depends on one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nolabel.losses import cluster, contrastive, distill, geometry, redundancy
from nolabel.networks.memory import MemoryBank, Queue

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_consecutive}

A, B = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(6)

CALLS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "nt_xent": lambda a, b: contrastive.nt_xent(a, b, 0.1)[0],
    "nt_xent_bf16": lambda a, b: contrastive.nt_xent(a, b, 0.1, "bf16")[0],
    "info_nce": lambda a, b: contrastive.info_nce(a, b, F.normalize(B, dim=1), 0.1, INDEX)[0],
    "clip": lambda a, b: contrastive.clip(a, b, torch.ones(1))[0],
    "sup_con": lambda a, b: contrastive.sup_con(torch.cat((a, b)), INDEX.repeat(2), 0.1),
    "margin_pair": lambda a, b: contrastive.margin_pair(a, b, INDEX > 2)[0],
    "triplet": lambda a, b: contrastive.triplet(a, b, b.flip(0))[0],
    "mine_negatives": lambda a, b: contrastive.mine_negatives(a, b, b, INDEX[:, None] != INDEX, 0.1),
    "negative_cosine": distill.negative_cosine,
    "distill": lambda a, b: distill.distill([a, b], [b.softmax(-1)]),
    "kl": lambda a, b: distill.kl(a, b, 2.0),
    "koleo": lambda a, b: distill.koleo(a),
    "barlow_twins": lambda a, b: redundancy.barlow_twins(a, b)[0] + redundancy.barlow_twins(a.T, b.T)[0],
    "vicreg": lambda a, b: redundancy.vicreg(a, b)[0] + redundancy.vicreg(a.T, b.T)[0],
    "sigreg": lambda a, b: redundancy.sigreg(torch.stack((a, b)), F.normalize(B[:, :4].T, dim=0)),
    "swap": lambda a, b: cluster.swap([a, b], [cluster.sinkhorn(b)]),
    "feature_std": lambda a, b: geometry.feature_std(a) + geometry.alignment(a, b) + geometry.uniformity(a),
    "queue": lambda a, b: (queue := Queue(4, 4)).enqueue(a) or queue.nearest(b),
    "bank": lambda a, b: (bank := MemoryBank(9, 4)).update(INDEX, a) or bank(bank.others(INDEX, 2)),
}


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in WAITS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CALLS)
def test_it_does_not_wait(name: str) -> None:
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    with NoWaiting():
        out = CALLS[name](a, b)
        if out.requires_grad:
            out.backward()


def test_the_guard_sees_a_wait() -> None:
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        bool(A.sum() > 0)
