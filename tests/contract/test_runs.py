"""Runs of every method by the engine: cut and resumed, or watched, they end bitwise where nothing happened."""

from functools import cache

import torch

from nolabel.engine.monitor import Monitor
from tests.support import build, run


@cache
def end(name):
    """The state after a whole run."""
    whole = run(name)
    whole.train()
    return whole.method.state_dict()


def same(method, name):
    state = method.state_dict()
    assert state.keys() == end(name).keys()
    for key, value in end(name).items():
        assert torch.equal(state[key], value), key


def test_resume_mid_epoch_is_bitwise(name, tmp_path):
    first = run(name, folder=tmp_path)
    first.train(until=3)
    first.save()
    second = run(name, folder=tmp_path, method=build(name, seed=77))
    assert second.resume()
    second.train()
    same(second.method, name)


def test_watching_changes_nothing(name):
    watched = run(name, log_every=1)
    plain = watched.method.views.plain(watched.source.at(0, 0))
    watched.observers = [Monitor(plain, tell=lambda line: None)]
    watched.train()
    same(watched.method, name)
