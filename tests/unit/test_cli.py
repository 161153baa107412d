"""The command as a user meets it: its own process, real files, every slip answered in one line with exit code 2."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tests.processes import ended, started


def fresh(*argv, cwd):
    """Run the command by a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "nolabel", *map(str, argv)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def nolabel(*argv, cwd, code=0):
    """Run the command to its end."""
    return ended(started(*argv, cwd=cwd), cwd, code)


def slip(*argv, cwd):
    """The one line that a slip is answered with."""
    (line,) = nolabel(*argv, cwd=cwd, code=2).strip().splitlines()
    return line


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """120 small pictures of two kinds, in two folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for kind, colour in (("cold", 40), ("warm", 200)):
        (folder / kind).mkdir(parents=True)
        for i in range(60):
            base = rng.integers(0, 50, (24, 24, 3)) + np.array([colour, 100, 240 - colour])
            Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{i}.png")
    return folder


SHORT = ("--epochs", "2", "--batch", "32", "--log-every", "2")


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    fresh("train", "simclr", "--data", photos, *SHORT, "--dir", "runs/a", cwd=place)
    return place


def test_a_run_leaves_what_it_promises(trained):
    folder = trained / "runs/a"
    for name in ("run.json", "metrics.jsonl", "results.json", "report.html", "encoder.safetensors", "encoder.json"):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").glob("events*")) and list((folder / "checkpoints").glob("*.pt"))
    rows = json.loads((folder / "results.json").read_text())
    for protocol in ("knn", "linear"):
        row = next(r for r in rows if r["protocol"] == protocol)
        assert {"protocol", "data", "split", "metric", "value", "random_init", "raw_input", "seed"} <= set(row)
        assert all(0 <= row[k] <= 100 for k in ("value", "random_init", "raw_input"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "lr", "samples_per_s", "wait", "feature_std", "effective_rank"} <= set(lines[-1])
    assert [line["step"] for line in lines] == [2, 4, 6]


def test_embed_in_both_formats_gives_the_encoders_features(trained, photos):
    import pyarrow.parquet as pq

    nolabel("embed", "runs/a", "--out", "f.npy", cwd=trained)
    nolabel("embed", "runs/a", "--data", photos, "--out", "f.parquet", cwd=trained)
    x, table = np.load(trained / "f.npy"), pq.read_table(trained / "f.parquet")
    card = json.loads((trained / "runs/a/encoder.json").read_text())
    assert x.shape == (len(table), card["dim"]) and x.dtype == np.float32
    assert np.allclose(np.array(table["feature"].to_pylist()), x, atol=1e-2)
    assert set(table["label"].to_pylist()) == {0, 1} and table["name"][0].as_py().endswith(".png")


def test_export_loads_elsewhere(trained):
    import nolabel as nl

    run = nl.load(trained / "runs/a")
    nolabel("export", "runs/a", "--to", "out/e.pt", cwd=trained)
    state = torch.load(trained / "out/e.pt", weights_only=True)
    assert set(state) == set(run.encoder.state_dict())
    line = slip("export", "runs/a", "--to", "out/e.zip", cwd=trained)
    assert ".safetensors, .pt or .onnx" in line


def test_onnx_gives_the_same_features(trained):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    pytest.importorskip("onnxscript", reason="onnxscript is an extra")
    import nolabel as nl

    nolabel("export", "runs/a", "--to", "out/e.onnx", cwd=trained)
    x = torch.randn(5, 3, 24, 24)
    session = runtime.InferenceSession(str(trained / "out/e.onnx"), providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        assert np.allclose(ours, nl.load(trained / "runs/a").encoder(x).numpy(), atol=1e-4)


def test_eval_on_other_data_adds_rows(trained, photos):
    shutil.copytree(photos, trained / "others")
    nolabel("eval", "runs/a", "--data", "others", "--protocols", "knn", cwd=trained)
    rows = json.loads((trained / "runs/a/results.json").read_text())
    assert {r["data"] for r in rows if r["protocol"] == "knn"} == {"photos", "others"}
    assert {r["data"] for r in rows if r["protocol"] == "linear"} == {"photos"}


def test_methods_as_json():
    done = fresh("methods", "--json", cwd=".")
    entries = {e["name"]: e for e in json.loads(done.stdout)}
    assert {"simclr", "dino", "mae", "rotation"} <= set(entries)
    assert entries["dino"]["arxiv"] == "2104.14294" and entries["mae"]["modalities"] == ["any"]


def test_slips_are_answered_in_one_line(photos, trained, tmp_path):
    assert "did you mean 'simclr'" in slip("train", "simcrl", cwd=tmp_path)
    assert "did you mean 'train'" in slip("trian", "simclr", cwd=tmp_path)
    assert "--temperature" in slip("train", "simclr", "--temprature", "0.5", cwd=tmp_path)
    assert "resnet18" in slip(
        "train", "simclr", "--data", photos, "--encoder", "resnet81", "--size", "32", cwd=tmp_path
    )
    assert "toyworld" in slip("train", "simclr", "--data", "toywrld", cwd=tmp_path)
    assert "nowhere" in slip("train", "simclr", "--data", tmp_path / "nowhere", cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty" in slip("train", "simclr", "--data", tmp_path / "empty", cwd=tmp_path)
    assert "batch" in slip("train", "simclr", "--data", photos, "--batch", "4096", "--epochs", "1", cwd=tmp_path)
    assert "--data is empty" in slip("train", "simclr", "--data", "", cwd=tmp_path)
    assert "more than 0" in slip("train", "simclr", "--data", photos, "--minutes", "0", cwd=tmp_path)
    assert "batch 0" in slip("train", "simclr", "--data", photos, "--batch", "0", "--epochs", "1", cwd=tmp_path)
    assert "epochs" in slip("train", "simclr", "--epochs", "three", cwd=tmp_path)
    assert "tiny_tokens" in slip("train", "mae", "--data", photos, "--encoder", "tiny", "--epochs", "1", cwd=tmp_path)
    assert "run of simclr" in slip("train", "dino", "--data", photos, "--dir", trained / "runs/a", cwd=tmp_path)
    assert "resume" in slip("train", "simclr", "--data", photos, "--dir", trained / "runs/a", cwd=tmp_path)
    assert "no run" in slip("resume", tmp_path / "empty", cwd=tmp_path)
    assert "did you mean 'a'" in slip("eval", trained / "runs/aa", cwd=tmp_path)
    assert "auto, cpu, cuda" in slip("train", "simclr", "--data", photos, "--device", "tpu", cwd=tmp_path)
    (tmp_path / "file").touch()
    assert "--dir" in slip(
        "train", "simclr", "--data", photos, "--epochs", "1", "--dir", tmp_path / "file/x", cwd=tmp_path
    )


@pytest.mark.parametrize(
    ("method", "flags", "said"),
    [
        ("simclr", ("--optim.lr", "-1"), "--optim.lr must be 0 or more"),
        ("simclr", ("--optim.lr", "nan", "--nonfinite", "skip"), "--optim.lr must be 0 or more"),
        ("simclr", ("--optim.betas", "0.9", "1"), "--optim.betas must be from 0 to below 1"),
        ("simclr", ("--hidden", "-1"), "simclr cannot be built with --hidden -1"),
        ("simclr", ("--out", "0"), "no weights with --out 0"),
        ("simclr", ("--views.std", "0", "0", "0"), "--views.std (0.0, 0.0, 0.0)"),
        ("simclr", ("--views.ratio", "0", "0"), "--views.ratio (0.0, 0.0)"),
        ("simclr", ("--views.mean", "nan", "0", "0"), "not finite with --views.mean"),
        (
            "mae",
            ("--views.test-size", "56"),
            "mae cannot train with --views.test_size 56: AssertionError: Input height",
        ),
        ("barlow_twins", ("--batch", "1"), "--batch 1 gives parts of one sample"),
        ("simclr", ("--encoder", "tiny_video"), "tiny_video is for video, not for image: take tiny,"),
        ("mae", ("--size", "36"), "take --size 32 or --size 40"),
        ("mae", ("--size", "36", "--encoder", "vit_tiny_patch16_224"), "take --size 32 or --size 40"),
        ("simclr", ("--evaluate", "propagation"), "--evaluate propagation: it needs an encoder of images"),
        ("simclr", ("--evaluate", "retrieval"), "--evaluate retrieval: it compares modalities"),
        ("simclr", ("--evaluate", "classify"), "simclr trains none"),
        ("simclr", ("--evaluate", "knm"), "did you mean 'knn'"),
        ("simclr", ("--evaluate", "none"), "without a name"),
    ],
)
def test_what_cannot_be_trained_is_said_before_there_is_a_folder(photos, tmp_path, method, flags, said):
    line = slip("train", method, "--data", photos, "--epochs", "1", *flags, "--dir", "run", cwd=tmp_path)
    assert line.startswith("nolabel: ") and said in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [("export", "--to", "file/e.pt"), ("embed", "--out", "file/e.npy")])
def test_what_cannot_be_written_is_said_in_one_line(trained, tmp_path, flags):
    (tmp_path / "file").touch()
    verb, *rest = flags
    assert "cannot write to file" in slip(verb, trained / "runs/a", *rest, cwd=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_run_that_takes_no_files_is_said_in_one_line(trained, tmp_path):
    shutil.copytree(trained / "runs/a", tmp_path / "run")
    (tmp_path / "run").chmod(0o555)
    assert "cannot write to run" in slip("eval", "run", cwd=tmp_path)


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_writes_a_checkpoint_and_resume_ends_bitwise_alike(photos, tmp_path, processes):
    base = ["train", "simclr", "--data", photos, "--epochs", "8", "--batch", "32", "--log-every", "1", "--no-report"]
    base += ["--evaluate", "--precision", "fp32", "--processes", processes]
    nolabel(*base, "--dir", "whole", cwd=tmp_path)
    child = started(*base, "--dir", "cut", cwd=tmp_path)
    metrics = tmp_path / "cut/metrics.jsonl"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and (not metrics.exists() or len(metrics.read_text().splitlines()) < 3):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGINT)
    assert "checkpoint" in ended(child, tmp_path, 130)
    nolabel("resume", "cut", cwd=tmp_path)
    from safetensors.torch import load_file

    whole, cut = (load_file(tmp_path / run / "encoder.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("argv", [("train", "simcl"), ("explain", "simcl"), ("trian", "simclr"), ("train",)])
def test_a_slip_in_a_name_does_not_wait_for_torch(argv):
    code = f"""
import sys
from nolabel.cli import main
try:
    main({list(argv)!r})
except SystemExit as stop:
    sys.exit(3 if "torch" in sys.modules else stop.code)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 2


def test_help_is_quick(tmp_path):
    for argv, limit in ((["--help"], 0.4), (["methods"], 0.6)):
        took = []
        for _ in range(3):
            start = time.perf_counter()
            fresh(*argv, cwd=tmp_path)
            took.append(time.perf_counter() - start)
        assert min(took) < 2 * limit, took  # twice: the machine that runs the tests may be busy


@pytest.mark.parametrize(
    "verb", [["resume"], ["eval"], ["embed", "--out", "x.npy"], ["export", "--to", "x.pt"], ["report"]]
)
def test_a_folder_without_a_run_is_told_without_waiting_for_torch(tmp_path, verb):
    (tmp_path / "simclr-photos").mkdir()
    (tmp_path / "simclr-photos" / "run.json").write_text("{}")
    code = f"""import sys
from nolabel.cli import main
try:
    main({[verb[0], "simclr-photo", *verb[1:]]!r})
finally:
    print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (2, "False"), done.stderr
    assert done.stderr == "nolabel: simclr-photo holds no run (no run.json); did you mean 'simclr-photos'?\n"
