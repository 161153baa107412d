"""Run folders: data that move, folders of one name, two trainings of one run, failed starts, damaged files."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

import nolabel as nl
from nolabel.cli import main
from tests.processes import ended, started

SHORT = {
    "steps": 3,
    "batch": 16,
    "evaluate": (),
    "report": False,
    "quiet": True,
    "processes": 1,
    "hidden": 32,
    "out": 16,
}


def pictures(folder, seed=0, count=40, side=24):
    """Small pictures of two kinds, in two folders."""
    rng = np.random.default_rng(seed)
    for kind, colour in (("cold", 40), ("warm", 200)):
        (folder / kind).mkdir(parents=True)
        for i in range(count // 2):
            base = rng.integers(0, 50, (side, side, 3)) + np.array([colour, 100, 240 - colour])
            Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was trained on photos/ from the folder above it, and that folder."""
    place = tmp_path_factory.mktemp("place")
    pictures(place / "photos")
    here = os.getcwd()
    os.chdir(place)
    try:
        nl.train("simclr", "photos/", dir="run", **SHORT)
    finally:
        os.chdir(here)
    return place


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, and its data beside it."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def moved(run, trained, tmp_path):
    """Where the data of `run` are now; they are no longer where they were."""
    shutil.copytree(trained / "photos", tmp_path / "elsewhere")
    settings = json.loads((run / "run.json").read_text())
    settings["data"] = str(tmp_path / "gone/photos")
    (run / "run.json").write_text(json.dumps(settings))
    return tmp_path / "elsewhere"


def test_data_are_found_from_another_folder(trained, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads((run / "run.json").read_text())["data"] == str(trained / "photos")
    assert {r["data"] for r in nl.load(run).judge(protocols=["knn"])} == {"photos"}
    assert nl.resume(run, quiet=True).embed().shape[0] == 36


def test_rows_of_folders_of_one_name_stay_apart(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("a", "b"):
        pictures(tmp_path / name / "photos", seed=ord(name))
    for data in (None, tmp_path / "a/photos", tmp_path / "b/photos", f"{tmp_path}/b/../b/photos/"):
        main(["eval", str(run), "--protocols", "knn", *(["--data", str(data)] if data else [])])
    rows = [
        r for r in json.loads((run / "results.json").read_text()) if r["protocol"] == "knn" and r["metric"] == "top1"
    ]
    assert [r["data"] for r in rows] == ["photos"] * 3
    assert [r["place"] for r in rows[1:]] == [str(tmp_path / "a/photos"), str(tmp_path / "b/photos")]
    first, *_, last = capsys.readouterr().out.split("simclr on photos")[1:]
    assert rows[0]["place"] not in first
    assert all(r["place"] in last for r in rows)


def test_rows_from_before_places_are_replaced(run):
    old = nl.load(run).judge(protocols=["knn"])
    (run / "results.json").write_text(json.dumps([{k: v for k, v in r.items() if k != "place"} for r in old]))
    nl.load(run).judge(protocols=["knn"])
    assert len(json.loads((run / "results.json").read_text())) == len(old)


def test_an_encoder_is_judged_and_used_where_its_data_have_gone(run, moved):
    trained = nl.load(run)
    assert {r["data"] for r in trained.judge(str(moved), ["knn"])} == {"elsewhere"}
    assert trained.embed(moved).shape == (36, 192)
    x = np.zeros((5, 24, 24, 3), np.uint8)
    assert trained.embed(x).shape == (5, 192)
    with pytest.raises(nl.UserError, match=r"no longer at .*gone/photos: say where they are"):
        nl.load(run).embed()


def test_a_page_is_written_with_data_that_were_moved(run, moved):
    with pytest.raises(nl.UserError, match="no longer at"):
        nl.load(run).report()
    main(["report", str(run), "--data", str(moved)])
    page = (run / "report.html").read_text()
    assert all(said in page for said in ("cold", "warm", "data:image"))


def test_a_run_goes_on_with_data_that_were_moved(run, moved, trained):
    with pytest.raises(nl.UserError, match="--data PLACE"):
        nl.resume(run, quiet=True)
    fewer = pictures(moved.parent / "fewer", count=30)
    with pytest.raises(nl.UserError, match="size 36, not 27"):
        nl.resume(run, quiet=True, data=fewer)
    nl.resume(run, quiet=True, data=moved)
    assert json.loads((run / "run.json").read_text())["data"] == str(moved)
    before, after = (nl.load(folder).encoder.state_dict() for folder in (trained / "run", run))
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_is_trained_once_at_a_time(trained, tmp_path, processes):
    argv = ["train", "simclr", "--data", trained / "photos", "--minutes", "5", "--batch", "16", "--evaluate"]
    argv += ["--no-report", "--quiet", "--dir", "run", "--processes", processes, "--log-every", "1"]
    child = started(*argv, cwd=tmp_path)
    try:
        folder, limit = tmp_path / "run", time.monotonic() + 120
        while not (folder / "run.json").exists() and child.is_alive() and time.monotonic() < limit:
            time.sleep(0.05)
        for again in (
            lambda: nl.resume(folder, quiet=True),
            lambda: nl.train("simclr", trained / "photos", dir=folder, **SHORT),
        ):
            with pytest.raises(nl.UserError, match="is being trained by another process"):
                again()
        metrics = folder / "metrics.jsonl"
        while child.is_alive() and time.monotonic() < limit and not (metrics.exists() and metrics.read_bytes()):
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGINT)
        ended(child, tmp_path, 130, seconds=60)
    finally:
        child.kill()
    with pytest.raises(nl.UserError, match="holds a run already"):  # and no longer that it is being trained
        nl.train("simclr", trained / "photos", dir=folder, **SHORT)


def test_a_start_that_failed_blocks_no_other(trained, tmp_path, monkeypatch):
    from nolabel.engine import Run

    def fail(self, until=None):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", fail)
        with pytest.raises(MemoryError):
            nl.train("simclr", trained / "photos", dir=tmp_path / "run", **SHORT)
    (tmp_path / "run/skipped.txt").write_text("of the first try\tx\n")
    nl.train("simclr", trained / "photos", dir=tmp_path / "run", **SHORT)
    assert (tmp_path / "run/encoder.safetensors").exists() and not (tmp_path / "run/skipped.txt").exists()
    with pytest.raises(nl.UserError, match="holds a run already"):
        nl.train("simclr", trained / "photos", dir=tmp_path / "run", **SHORT)


@pytest.mark.parametrize("damaged", ["[{", "[3]", '[{"protocol": "knn"}]', "{}3", "7"])
def test_damaged_results_are_set_aside(run, damaged, capsys):
    (run / "results.json").write_text(damaged)
    rows = nl.load(run).judge(protocols=["knn"])
    assert json.loads((run / "results.json").read_text()) == rows
    assert (run / "results.json.damaged").read_text() == damaged
    assert "results.json.damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((4, 24, 24, 3), np.float64), "image must be uint8"),
        (np.zeros((24, 24, 3), np.uint8), "image must be uint8"),
        (np.zeros((0, 24, 24, 3), np.uint8), "there must be samples"),
        (np.zeros((4, 24, 24, 2), np.uint8), "which cannot be made of"),
        (np.array(["a", "b"]), "no array of samples"),
        (np.array([None, 1]), "no array of samples"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "no array of samples"),
        ({"images": np.zeros((4, 24, 24, 3), np.uint8)}, "reads no 'images'; did you mean 'image'"),
        ({}, "no array was given"),
        (7, "image must be uint8"),
    ],
)
def test_what_is_no_array_of_samples_is_said_in_one_line(trained, data, said):
    with pytest.raises(nl.UserError) as caught:
        nl.load(trained / "run").embed(data)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_array_to_compare_on_is_said_in_one_line():
    with pytest.raises(nl.UserError, match="no array of numbers"):
        nl.compare(["simclr"], data=np.array([None, 1]))


def test_no_folder_is_said_in_one_line():
    for verb in (nl.load, nl.resume):
        with pytest.raises(nl.UserError, match="None is no folder of a run"):
            verb(None)


def test_protocols_that_do_not_suit_are_refused_before_they_judge(run):
    with pytest.raises(nl.UserError, match="propagation: it needs an encoder of images"):
        nl.load(run).judge(protocols=["knn", "propagation"])
    assert not (run / "results.json").exists()


def test_ctrl_c_after_the_training_says_how_to_go_on(trained, tmp_path, monkeypatch):
    from nolabel.engine import Interrupted
    from nolabel.trained import Trained

    def interrupt(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trained, "judge", interrupt)
        with pytest.raises(Interrupted, match=r"training, which is complete: 'nolabel resume .*run' judges") as caught:
            nl.train("simclr", trained / "photos", dir=tmp_path / "run", **{**SHORT, "evaluate": ("knn",)})
    assert caught.value.code == 130
    assert {r["protocol"] for r in nl.resume(tmp_path / "run", quiet=True).results} >= {"knn"}


def test_files_have_the_mode_that_the_umask_gives(trained, tmp_path):
    before = os.umask(0o027)
    try:
        written = [
            path for end in ("safetensors", "pt") for path in nl.load(trained / "run").export(tmp_path / f"e.{end}")
        ]
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    for path in (*written, *(path.with_suffix(".json") for path in written)):
        assert path.stat().st_mode & 0o777 == 0o640
    assert not list(tmp_path.glob(".*"))


def test_files_that_training_or_embedding_cannot_read_are_told(run, tmp_path, capsys):
    data = pictures(tmp_path / "data", count=60)
    (data / "cold/1.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="cannot be decoded"):
        nl.train("simclr", data, dir=tmp_path / "new", cache="never", **{**SHORT, "steps": 12, "quiet": False})
    lines = (tmp_path / "new/skipped.txt").read_text().splitlines()
    assert len(lines) == 1 and lines[0].startswith("cold/1.png\t")
    assert capsys.readouterr().err.count("skipped 1 unreadable files of train: cold/1.png") == 1
    nl.load(tmp_path / "new").embed()
    assert "skipped" not in capsys.readouterr().err  # it has been told
    nl.load(run).embed(data)
    assert "skipped 1 unreadable files of train: cold/1.png" in capsys.readouterr().err
