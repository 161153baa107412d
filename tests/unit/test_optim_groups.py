"""Which parameters decay, and that every optimiser by name does what its name says."""

import pytest
import torch
from torch import nn

from nolabel.core import Clock, Optim, UserError
from nolabel.optim import learning_rate, optimizer, steady, undecayed


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


def test_tables_that_a_module_names_do_not_decay():
    inner, net = Net(), nn.Module()
    inner.undecayed, net.inner = ("wide.weight",), inner
    o = optimizer(Optim("adamw", weight_decay=0.3), net.parameters(), undecayed(net))
    (decaying, _) = (g["params"] for g in o.param_groups)
    assert [p is inner.conv.weight for p in decaying] == [True]


def test_what_a_module_names_steady_keeps_its_rate():
    net = Net()
    net.steady = ("wide", "linear.bias")
    o = optimizer(Optim("sgd", weight_decay=0.3), net.parameters(), undecayed(net), steady(net))
    names = {id(p): n for n, p in net.named_parameters()}
    found = {(g["decays"], g["steady"]): {names[id(p)] for p in g["params"]} for g in o.param_groups}
    assert found[True, True] == {"wide.weight"} and found[False, True] == {"wide.bias", "linear.bias"}
    assert found[True, False] == {"conv.weight"} and sum(map(len, found.values())) == len(names)
    settings = Optim("sgd", lr=0.2, warmup_epochs=2)
    rates = {
        still: [learning_rate(settings, Clock(s, 40, 4), 512, still) for s in range(40)] for still in (False, True)
    }
    assert (
        rates[True] == [0.4] * 40 and rates[False][0] == 0.05 and max(rates[False]) == 0.4 and rates[False][-1] < 0.01
    )


def test_warm_up_in_steps_is_as_long_in_epochs_of_any_length():
    settings = Optim("sgd", lr=1.0, warmup_epochs=0.5, warmup_steps=20, scaled=False)
    for epoch_steps in (10, 1000):
        rates = [learning_rate(settings, Clock(s, 4000, epoch_steps), 256) for s in range(1000)]
        assert rates.index(max(rates)) == (500 if epoch_steps == 1000 else 20) - 1


def test_lars_clipped_is_never_faster_than_sgd():
    steps = {}
    for name, more in (("sgd", {}), ("lars", {"trust_clip": True}), ("lars unclipped", {})):
        p = nn.Parameter(torch.full((4, 4), 2.0))
        o = optimizer(Optim(name.split()[0], lr=0.1, weight_decay=1e-6, trust=0.02, **more), [p])
        for size in (1e-3, 1.0):
            before, p.grad = p.detach().clone(), torch.full((4, 4), size)
            o.state.clear()
            o.step()
            steps[name, size] = (before - p.detach()).mean().item()
    # LARC: the rate of a tensor is the smaller of the rate and eta |w| / |g|, here 0.02 * 2 / size
    assert steps["lars", 1e-3] == pytest.approx(steps["sgd", 1e-3], rel=1e-2)
    assert steps["lars", 1.0] == pytest.approx(0.04, rel=1e-2)
    assert steps["lars unclipped", 1e-3] == pytest.approx(0.1 * 0.04, rel=1e-2)


def test_unknown_names_are_told():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        optimizer(Optim("adamww"), Net().parameters())


def test_a_group_without_matrices_has_no_empty_part():
    assert len(optimizer(Optim("sgd"), [nn.Parameter(torch.ones(3))]).param_groups) == 1
