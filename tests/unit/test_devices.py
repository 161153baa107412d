"""Whole runs on a device that is not the CPU: trained, judged, looked at, exported, gone on with; too large for its memory."""

import json

import pytest
import torch

import nolabel as nl
from nolabel.cli import main
from nolabel.methods.contrastive.simclr import SimCLR
from tests.processes import answer


def gone_through(method, folder):
    """What the run leaves in its folder, and the protocols of its results."""
    from tests import elsewhere

    elsewhere.install()
    import nolabel as nl
    from nolabel.engine import parallel
    from nolabel.evaluate import FineTune, Linear, LowShot

    parallel.device_of = lambda name: elsewhere.DEVICE
    rng = torch.Generator().manual_seed(0)
    image, label = torch.randint(0, 256, (96, 16, 16, 3), generator=rng, dtype=torch.uint8), torch.arange(96) % 3
    options = {"batch": 16, "processes": 1, "precision": "bf16", "quiet": True, "size": 16}
    options |= {"evaluate": ("knn",), **({"labels": "12"} if method == "fixmatch" else {"views.flip": 0.3})}
    nl.train(method, {"image": image.numpy(), "label": label.numpy()}, steps=3, dir=folder, report=False, **options)
    run = nl.load(folder)
    quick = Linear(grid=(1e-2,), iterations=3)
    tuned = FineTune(samples=32, rates=(1e-3,), epochs=1)
    run.judge(None, [quick, LowShot(labels=3, draws=1, linear=quick), tuned])
    run.embed(image.numpy())
    for name in ("encoder.pt", "again.safetensors"):
        run.export(folder / name)
    run.report()
    nl.resume(folder, quiet=True)
    return {path.name for path in folder.iterdir()}, {row["protocol"] for row in run.results}


@pytest.mark.parametrize("method", ["mae", "fixmatch"])
def test_a_run_on_another_device(method, tmp_path):
    left, judged = answer(240, gone_through, method, tmp_path)
    assert {"encoder.safetensors", "encoder.pt", "again.safetensors", "results.json", "report.html"} <= left
    assert {"knn", "linear", "low-shot", "fine-tune", *(["classify"] if method == "fixmatch" else [])} <= judged


@pytest.fixture
def fits(monkeypatch):
    """Memory for steps of twelve samples, after the number of them that the test says, of any."""
    forward, allowed = SimCLR.forward, {"steps": 0}

    def limited(self, views, t):
        if len(views["a"]) > 12 and t.step >= allowed["steps"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, views, t)

    monkeypatch.setattr(SimCLR, "forward", limited)
    return allowed


IMAGES = torch.randint(0, 256, (40, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
QUICK = {"steps": 3, "processes": 1, "evaluate": (), "report": False, "quiet": True}


def test_a_batch_of_the_recipe_that_does_not_fit_is_halved_until_it_does(fits, tmp_path, capsys):
    nl.train("simclr", IMAGES, dir=tmp_path, **QUICK)
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert settings["batch"] == 8, "32 fill the data, 16 do not fit"
    said = capsys.readouterr().err
    assert "a batch of 32 does not fit into the memory of the device; trying 16" in said and "trying 8" in said
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3]
    nl.resume(tmp_path, quiet=True)


def test_a_batch_that_was_asked_for_is_not_changed(fits, tmp_path):
    with pytest.raises(nl.UserError, match=r"step 1 needs more memory .* a smaller --batch than 16, or --accumulate 2"):
        nl.train("simclr", IMAGES, dir=tmp_path, batch=16, **QUICK)
    nl.train("simclr", IMAGES, dir=tmp_path / "parts", batch=16, accumulate=2, **QUICK)


def test_memory_that_ends_on_the_way_ends_the_run(fits, tmp_path):
    fits["steps"] = 2
    with pytest.raises(nl.UserError, match="step 3 needs more memory"):
        nl.train("simclr", IMAGES, dir=tmp_path, **QUICK)


def test_memory_that_ends_elsewhere_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    def load(run):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("nolabel.api.load", load)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main(["eval", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nolabel: too little memory (CUDA out of memory): ")
