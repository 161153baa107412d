"""Who shares the statistics of batch normalisation: groups of a batch, groups dealt out anew, or nobody."""

from collections.abc import Callable

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
    """Exchange, in place, every batch norm for a layer norm over channels and places: samples do not meet in it."""
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            setattr(net, name, nn.GroupNorm(1, child.num_features, child.eps))
        else:
            layer_norms(child)
    return net
