"""The sample of methods for expensive tests: who is in it, and that everyone has a turn."""

from nolabel import methods
from tests import sampling
from tests.sampling import PACKAGE, closure, sample, touched


def test_a_file_touches_the_methods_that_need_it():
    assert touched(frozenset({PACKAGE / "methods/contrastive/simclr.py"})) == {"simclr"}
    assert "byol" in touched(frozenset({PACKAGE / "networks/ema.py"}))
    assert "simclr" not in touched(frozenset({PACKAGE / "networks/ema.py"}))
    assert touched(frozenset({PACKAGE / "core/clock.py"})) == set(methods.names())
    assert not touched(frozenset({PACKAGE / "cli.py"}))
    assert PACKAGE / "core/dist.py" in closure(PACKAGE / "losses/contrastive.py")


def test_changed_ones_come_first_and_the_others_take_turns(monkeypatch):
    monkeypatch.setattr(sampling, "modified", lambda: frozenset({PACKAGE / "methods/masked/mae.py"}))
    seen = set()
    for commit in range(len(methods.names())):
        monkeypatch.setattr(sampling, "commits", lambda now=commit: now)
        found = sample(3, always=("simclr",))
        assert {"mae", "simclr"} <= set(found) and len(found) == 4
        assert found == sample(3, always=("simclr",))
        seen |= set(found)
    assert seen == set(methods.names())


def test_a_change_of_everything_still_fits(monkeypatch):
    monkeypatch.setattr(sampling, "modified", lambda: frozenset({PACKAGE / "core/clock.py"}))
    assert len(sample(3)) == 3 and len(sample(10**3)) == len(methods.names())


def test_a_sample_among_some():
    assert sample(5, among=("mae", "byol")) == ["byol", "mae"]
    assert len(sample(1, among=("mae", "byol"))) == 1 and sample(0, among=("mae", "byol")) == []
