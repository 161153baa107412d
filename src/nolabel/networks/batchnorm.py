"""Statistics of batch normalisation: who shares them (groups of a batch, groups dealt out anew, or nobody), and those of a
net that has not trained.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nolabel.core.dist import gather, rank, world

Net = Callable[[Tensor], Tensor]


def in_groups(net: Net, x: Tensor, groups: int = 1) -> Tensor:
    """`net` on `groups` equal parts of the batch, one after the other, each with batch statistics of its own."""
    return torch.cat([net(part) for part in x.chunk(groups)]) if groups > 1 else net(x)


@torch.no_grad()
def shuffled(net: Net, x: Tensor, groups: int = 1) -> Tensor:
    """`net` on samples dealt out at random to the groups of all ranks, and the outputs of this rank's samples.

    Shuffling BN of MoCo (He, Fan, Wu, Xie, Girshick, CVPR 2020, section 3.3): the company that a sample is normalised
    with tells nothing about it. Without gradient. Every rank uses the permutation of rank 0.
    """
    if groups == 1 and world() == 1:
        return net(x)
    all_N = gather(x)
    order_N = gather(torch.randperm(len(all_N), device=x.device))[: len(all_N)]
    out_N = gather(in_groups(net, all_N[order_N.chunk(world())[rank()]], groups))
    return out_N[order_N.argsort()[rank() * len(x) :][: len(x)]]


def layer_norms(net: nn.Module) -> nn.Module:
    """Exchange, in place, every batch norm for a layer norm over channels and places: samples do not meet in it.

    The activation that some batch norms of timm end with stays.
    """
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            norm = nn.GroupNorm(1, child.num_features, child.eps)
            act = getattr(child, "act", None)
            setattr(net, name, norm if act is None else nn.Sequential(norm, act))
        else:
            layer_norms(child)
    return net


def calibrate_batchnorm(net: nn.Module, batches: Iterable[Tensor], untrained: bool = False) -> None:
    """Replace running statistics by the mean over `batches` of each batch's statistics, in place.

    An untrained net with its initial statistics (mean 0, variance 1) tells samples apart less than it might. Does nothing
    to nets without batch norm; with `untrained`, nothing to norms that have seen training. Pass batches of equal size.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.num_batches_tracked is not None]
    norms = [m for m in norms if not (untrained and m.num_batches_tracked)]  # type: ignore[truthy-bool]
    if not norms:
        return
    modes, momenta = {m: m.training for m in net.modules()}, [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    with torch.no_grad():
        for x in batches:
            net(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode


@contextmanager
def first_statistics(net: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Within it the batch norms of `net` that have never trained have the statistics of `batches`."""
    buffers = {b: b.clone() for m in net.modules() if isinstance(m, _BatchNorm) for b in m.buffers()}
    try:
        calibrate_batchnorm(net, batches, untrained=True)
        yield
    finally:
        for buffer, value in buffers.items():
            buffer.copy_(value)
