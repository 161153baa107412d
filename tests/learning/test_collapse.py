"""The alarm rings within 200 steps of a collapse made on purpose, and not in the same runs left healthy."""

import json

import pytest
import torch

import nolabel as nl

pytestmark = pytest.mark.learning

BROKEN = [("byol", {"predictor": False}), ("simsiam", {"stop_gradient": False}), ("vicreg", {"variance": 0.0})]


def alarms(method, folder, **fields):
    """The steps at which the alarm rang in 200 steps of the small recipe, with small batches of small pictures."""
    torch.set_num_threads(1)
    nl.train(
        method,
        "toyworld",
        steps=200,
        batch=32,
        size=24,
        processes=1,
        evaluate=(),
        report=False,
        quiet=True,
        dir=folder,
        **fields,
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "alarm" in line]


@pytest.mark.parametrize(("method", "fields"), BROKEN, ids=[m for m, _ in BROKEN])
def test_it_rings_when_nothing_holds_the_embeddings_apart(method, fields, tmp_path):
    assert len(alarms(method, tmp_path / "run", **fields)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m, _ in BROKEN])
def test_it_is_silent_in_the_paper(method, tmp_path):
    assert alarms(method, tmp_path / "run") == []
