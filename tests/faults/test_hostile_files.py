"""Settings, checkpoints and encoders by someone who means harm: refused in one line, nothing executed, nothing written."""

import copy
import json
import os
import shutil
import struct

import numpy as np
import pytest
import torch

import nolabel as nl
from nolabel.core import UserError
from tests.support import NARROW


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two steps."""
    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    np.savez(place / "images.npz", images=rng.integers(0, 255, (64, 24, 24, 3), dtype=np.uint8))
    nl.train(
        "simclr", place / "images.npz", steps=2, batch=32, processes=1, evaluate=(), report=False, quiet=True,
        dir=place / "run", hidden=NARROW["hidden"], out=NARROW["out"],
    )  # fmt: skip
    return place


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, with nothing else in its folder."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def changed(run, path, value):
    """Put a value into run.json; the path has dots."""
    plan = json.loads((run / "run.json").read_text())
    before, place = copy.deepcopy(plan), plan
    *parents, last = path.split(".")
    for name in parents:
        place = place[name]
    place[last] = value
    assert plan != before
    (run / "run.json").write_text(json.dumps(plan))


HOSTILE = [
    ("method", "../../../etc/passwd"), ("method", "os"), ("method", "__init__"), ("method", 3), ("method", ["simclr"]),
    ("fields", []), ("fields.temperature", "0.1"), ("fields.temperature", {"__class__": "os.system"}),
    ("fields.hidden", -5), ("fields.hidden", 10**15), ("fields.views", {"size": -1}), 
    ("fields.views.scale", [1]), ("fields.optim.name", "os.system"), ("fields.optim.name", "__import__('os')"),
    ("fields.unknown", 1), ("fields.forward", 1), ("fields.__class__", "x"), ("data", 5), ("data", "\0"),
    ("data", "nowhere.npz"), ("encoders", []),
    ("encoders.image.name", "hf-hub:someone/thing"), ("encoders.image.name", "../x"),
    ("encoders.image.name", None), ("encoders.image.shape", [3, 0, 0]), ("encoders.image.shape", [7, 24, 24]),
    ("encoders.image.surprise", 1), ("encoders.image.init", "/etc/passwd"), ("encoders.image.init", 5),
    ("encoders.image.pretrained", "yes please"),
    ("form.size", -1), ("form.size", "large"), ("settings.batch", 0), ("settings.batch", 10**12), ("settings.accumulate", 0),
    ("settings.log_every", 0), ("settings.keep", -1), ("settings.seed", "x"), ("settings.precision", "fp7"),
    ("settings.steps", float("inf")), ("settings.steps", -1), ("settings.checkpoint_minutes", float("nan")),
    ("device", "cuda:99; rm"), ("cache", "perhaps"), ("evaluate", "knn"), ("evaluate", ["os"]), ("report", "yes"),
    ("settings", None), ("about", 7),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), HOSTILE, ids=[f"{p}={str(v)[:20]}" for p, v in HOSTILE])
def test_a_hostile_setting_is_refused_in_one_line(run, tmp_path, path, value, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    changed(run, path, value)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        nl.resume(run, quiet=True)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert all(run in path.parents for path in set(tmp_path.rglob("*")) - before)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, '{"method": "simclr"', "\xff\xfe", "NaN"])
def test_a_broken_settings_file_is_refused(run, text):
    (run / "run.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"run\.json"):
        nl.resume(run)


def test_init_weights_are_never_unpickled(run, tmp_path):
    torch.save({"state_dict": Evil(tmp_path / "executed")}, tmp_path / "weights.pt")
    changed(run, "encoders.image.init", str(tmp_path / "weights.pt"))
    with pytest.raises(UserError):
        nl.resume(run, quiet=True)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "blob",
    [b"", b"garbage", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 10) + b"{" * 10,
     struct.pack("<Q", 70) + b'{"x":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}'.ljust(70)],
)  # fmt: skip
def test_a_hostile_encoder_file_is_refused(run, blob):
    (run / "encoder.safetensors").write_bytes(blob)
    with pytest.raises(UserError, match=r"encoder\.safetensors"):
        _ = nl.load(run).encoder


@pytest.mark.parametrize(
    "card",
    ["", "[]", "{}", '{"name": "../../x"}', '{"name": "tiny", "size": -3}', '{"name": "tiny", "size": 24, "channels": 99}',
     '{"name": "hf-hub:a/b", "size": 24}', '{"name": 5}', '{"name": "resnet18", "size": 24, "channels": 3, "timm": 1}'],
)  # fmt: skip
def test_a_hostile_card_is_refused(run, card, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (run / "encoder.json").write_text(card)
    with pytest.raises(UserError):
        _ = nl.load(run).encoder


def test_a_checkpoint_of_other_shapes_is_refused(run):
    changed(run, "fields.hidden", 64)
    with pytest.raises(UserError, match="checkpoint"):
        nl.resume(run, quiet=True)
