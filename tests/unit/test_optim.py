"""Optimisers by name: what decays, what is orthogonalised, what is refused."""

import pytest
import torch
from torch import nn

from nolabel.core import Optim, UserError
from nolabel.optim import optimizer


def stepped(settings):
    """A net after one step, and how far each parameter went, with gradients of random directions."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    before = {k: v.detach().clone() for k, v in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    optimizer(settings, net.parameters()).step()
    return {k: v.detach() - before[k] for k, v in net.named_parameters()}, before


def test_muon_takes_orthogonal_steps_in_matrices_and_adams_in_the_rest():
    moved, _ = stepped(Optim("muon", lr=0.01, weight_decay=0.0))
    for key, shape in (("0.weight", (8, 27)), ("3.weight", (4, 8))):
        # 0.2 sqrt(largest side): the size of AdamW's updates (Liu et al. 2025); five Newton-Schulz steps reach 0.7 to 1.2
        values = torch.linalg.svdvals(moved[key].reshape(shape)) / (0.01 * 0.2 * max(shape) ** 0.5)
        assert ((values > 0.5) & (values < 1.35)).all(), values
    for key in ("0.bias", "1.weight", "1.bias", "3.bias"):
        torch.testing.assert_close(moved[key].abs(), torch.full_like(moved[key], 0.01), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "muon"])
def test_only_matrices_decay(name):
    with_decay, before = stepped(Optim(name, lr=0.01, weight_decay=0.5))
    without, _ = stepped(Optim(name, lr=0.01, weight_decay=0.0))
    for key, start in before.items():
        same = torch.equal(with_decay[key], without[key])
        assert same == (start.ndim == 1), key


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(UserError, match="muon"):
        optimizer(Optim("muonn"), [nn.Parameter(torch.zeros(2, 2))])
