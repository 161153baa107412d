"""Every method beats its own random init by its floor after seconds of training on one core."""

import pytest
import torch

from nolabel.studies.learning import FLOOR, floor_of, short

pytestmark = pytest.mark.learning


def test_it_learns(name, tmp_path):
    torch.set_num_threads(1)
    value, untrained = short(name, tmp_path / "run")
    assert value >= untrained + floor_of(name), f"{value:.1f} %, random init {untrained:.1f} %"
    assert '"alarm"' not in (tmp_path / "run/metrics.jsonl").read_text(), "the collapse alarm rang in a healthy run"


def test_floors_are_of_methods_that_exist():
    from nolabel import methods

    assert set(FLOOR) <= set(methods.names()) and min(FLOOR.values(), default=1) > 0
