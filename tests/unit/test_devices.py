"""Whole runs on a device that is not the CPU: trained, judged, looked at, exported, gone on with."""

import pytest
import torch

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
    options = {"batch": 16, "processes": 1, "precision": "fp32", "quiet": True, "size": 16}
    options |= {"evaluate": ("knn",), **({"labels": "12"} if method == "fixmatch" else {})}
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
