"""Which parameters decay, and that every optimiser by name does what its name says."""

import pytest
import torch
from torch import nn

from nolabel.core import Optim, UserError
from nolabel.optim import optimizer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 1)
        self.position, self.token = nn.Parameter(torch.ones(1, 9, 4)), nn.Parameter(torch.ones(1, 1, 4))
        self.wide = nn.Linear(4, 5)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "lamb"])
def test_only_matrices_and_kernels_decay(name):
    net = Net()
    o = optimizer(Optim(name, weight_decay=0.3), net.parameters())
    decay = {id(p): g["weight_decay"] for g in o.param_groups for p in g["params"]}
    assert {n for n, p in net.named_parameters() if decay[id(p)] == 0.3} == {"conv.weight", "wide.weight"}
    assert set(decay.values()) == {0.0, 0.3} and len(decay) == len(list(net.parameters()))
    assert [g["decays"] for g in o.param_groups] == [True, False]


def test_unknown_names_are_told():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        optimizer(Optim("adamww"), Net().parameters())


def test_a_group_without_matrices_has_no_empty_part():
    assert len(optimizer(Optim("sgd"), [nn.Parameter(torch.ones(3))]).param_groups) == 1
