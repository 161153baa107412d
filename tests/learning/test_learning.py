"""Every method reaches its floor, beside its own random init, after seconds of training on one core."""

import pytest
import torch

from nolabel import methods
from nolabel.studies._floors import FLOORS
from nolabel.studies.learning import criterion_of, holds, reached, short

pytestmark = pytest.mark.learning


def test_it_learns(name, tmp_path):
    torch.set_num_threads(1)
    floor, trained = FLOORS[name], short(name, tmp_path / "run")
    criterion = criterion_of(name, floor.own)
    value, untrained = reached(trained, criterion)
    assert holds(floor, criterion, value, untrained), f"{criterion} {value:.3f}, random init {untrained:.3f}, {floor}"
    assert '"alarm"' not in (tmp_path / "run/metrics.jsonl").read_text(), "the collapse alarm rang in a healthy run"


def test_every_method_has_a_floor():
    assert list(FLOORS) == methods.names()
    assert all(floor.steps > 0 and floor.least > 0 for floor in FLOORS.values())
