"""Studies: trials that several processes share, tables from trials, and both commands on a small folder."""

import copy
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nolabel import recipes
from nolabel.core import Clock, UserError
from nolabel.core.random import generator
from nolabel.studies import load, names, title
from nolabel.studies._fill import known, made_with
from nolabel.studies._floors import FLOORS, Floor
from nolabel.studies._ledger import Ledger, outdated
from nolabel.studies._trial import Failed, Trial, settings_of
from nolabel.studies.compare import cells_of, head, markdown, scores, table
from nolabel.studies.learning import OWN, floor_of, holds, judged_by, own_of, page, rows
from tests.processes import CLEAN
from tests.support import Noise, build
from tests.unit.data_files import write_folder


def record(method="simclr", data="d", seed=0, value=50.0, minutes=1.0, alarms=(), **more):
    score = {"protocol": "knn", "metric": "top1", "value": value, "random_init": 20.0 + seed, "raw_input": 30.0}
    made = {"method": method, "data": data, "seed": seed, "budget": {"minutes": minutes}, "scores": [score]}
    cost = {"seconds": 60.0, "steps": 10, "samples_per_s": 100.0, "memory": 200.0, "encoder": "tiny", "batch": 8}
    about = {"processes": 1, "started": "2026-01-02T03:04:05", "versions": {"nolabel": "0"}, "git": "abc"}
    machine = {"gpu": None, "cpu": "a processor", "threads": 1}
    return {**made, **cost, **about, "machine": machine, "alarms": list(alarms), **more}


def trial(method="simclr", seed=0, minutes=1.0, protocols=("knn",), own=None):
    return Trial(method, "d", seed, {"minutes": minutes}, protocols, own)


@pytest.mark.parametrize("name", OWN)
def test_own_criteria_are_what_the_method_logs(name):
    method = build(name).eval()
    noise = Noise.of(method)
    loss, logs = method(method.views(noise.at(0, 0), generator(1)), Clock(1, 10, noise.epoch_steps))
    assert OWN[name] in {**logs, "loss": loss}


def test_a_finished_trial_is_kept_and_budgets_never_mix(tmp_path):
    published = []
    ledger = Ledger(tmp_path / "new" / "t.json", published.append)
    for seed in (1, 0):
        ledger.add(record(seed=seed))
    ledger.add(record("mae"))
    assert [(r["method"], r["seed"]) for r in ledger.records()] == [("mae", 0), ("simclr", 0), ("simclr", 1)]
    assert ledger.has(trial()) and not ledger.has(trial(minutes=2.0)) and not ledger.has(trial(seed=2))
    assert not ledger.has(trial(protocols=("knn", "linear"))) and not ledger.has(trial(own="loss"))
    ledger.add(record(value=60.0))
    assert [r["scores"][0]["value"] for r in ledger.records()] == [50.0, 60.0, 50.0]
    ledger.add(record(minutes=2.0))
    assert [(r["method"], r["budget"]["minutes"]) for r in ledger.records()] == [("mae", 1.0), ("simclr", 2.0)]
    assert published[-1] == ledger.records()
    ledger.path.write_text("[{")
    with pytest.raises(UserError, match="damaged"):
        ledger.records()


def add_many(path, seeds):
    ledger = Ledger(Path(path), lambda records: None)
    for seed in seeds:
        ledger.add(record(seed=seed))


def claimed(path, answer):
    with Ledger(Path(path), lambda records: None).claim(trial()) as mine, \
            Ledger(Path(path), lambda records: None).claim(trial(seed=1)) as other:  # fmt: skip
        answer.send((mine, other))


def test_what_was_trained_in_other_settings_is_trained_again(tmp_path):
    ledger, trial = (
        Ledger(tmp_path / "t.json", lambda records: None),
        Trial("simclr", "toyworld", 0, {"steps": 3}, ("knn",)),
    )
    record = {
        "method": "simclr",
        "data": "toyworld",
        "budget": trial.budget,
        "scores": [{"protocol": "knn", "value": 50.0}],
    }
    for seed in range(3):
        ledger.add({**record, "seed": seed})
    assert ledger.has(trial)
    old = [{**r, "outdated": True} for r in ledger.records()]
    ledger.path.write_text(json.dumps(old))
    assert not ledger.has(trial)
    ledger.add({**record, "seed": 0})
    assert ledger.has(trial) and len(ledger.records()) == 1, "no mean is over both"


def test_a_recipe_that_has_changed_is_seen(monkeypatch):
    record = {"method": "simclr", "recipe": "tiny", "settings": settings_of("simclr", "tiny")}
    assert not outdated(record)
    recipe = recipes.find("tiny", "simclr", 32)
    for change in ({"batch": 12}, {"fields": {**recipe.fields, "temperature": 0.11}}):
        settings_of.cache_clear()
        monkeypatch.setattr(recipes, "find", lambda *which, change=change: replace(recipe, **change))
        assert outdated(record)
    settings_of.cache_clear()
    views = recipe.fields["views"]
    monkeypatch.setattr(
        recipes, "find", lambda *which: replace(recipe, fields={**recipe.fields, "views": copy.copy(views)})
    )
    assert not outdated(record), "the same in another object"
    settings_of.cache_clear()


def test_another_folder_of_the_same_name_is_other_data(tmp_path):
    ledger, folders = Ledger(tmp_path / "t.json", lambda records: None), [tmp_path / k / "photos" for k in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    one, other = (Trial("simclr", str(folder), 0, {"steps": 3}, ("knn",)) for folder in folders)
    scores = [{"protocol": "knn", "value": 50.0}]
    ledger.add(
        {"method": "simclr", "data": "photos", "seed": 0, "budget": one.budget, "place": one.place, "scores": scores}
    )
    assert one.key == other.key and one.name != other.name
    assert ledger.has(one) and not ledger.has(other)


def test_processes_side_by_side_lose_nothing_and_claim_apart(tmp_path):
    path = tmp_path / "t.json"
    workers = [CLEAN.Process(target=add_many, args=(str(path), range(i, 40, 2))) for i in range(2)]
    here, there = CLEAN.Pipe(duplex=False)
    ledger = Ledger(path, lambda records: None)
    with ledger.claim(trial()) as mine:
        third = CLEAN.Process(target=claimed, args=(str(path), there))
        for process in (*workers, third):
            process.start()
        answer = here.recv()
        for process in (*workers, third):
            process.join(60)
    assert mine and answer == (False, True)
    assert [r["seed"] for r in ledger.records()] == list(range(40))


def test_learning_rows_are_means_and_spreads_over_seeds():
    toy = [record(data="toyworld", seed=s, value=v) for s, v in enumerate((40.0, 50.0, 60.0))]
    records = [*toy, record("mae", value=70.0, alarms=[100])]
    one, two = rows(records)
    keys = ["method", "data", "protocol", "seeds", "mean", "std", "random_init", "raw_input", "floor"]
    assert list(one) == keys and list(two) == keys
    assert one == dict(zip(keys, ("simclr", "toyworld", "knn", 3, 50.0, 10.0, 21.0, 30.0, floor_of("simclr", "knn"))))
    assert two["std"] is None and two["floor"] is None, "floors are of the toy world"
    text = page(records, "nolabel study learning")
    assert "## Contrastive" in text and "| simclr | toyworld | knn | 50.0 ± 10.0 | 21.0 | 30.0 | +29.0 |" in text
    assert "2 of 2 rows are 3 points or more" in text and "at this budget: none." in text
    assert "Collapse alarms in 4 runs: mae on d, seed 0." in text and "a processor" in text and "abc" in text


def test_a_training_that_shared_its_core_is_named():
    alone, old = record(cpu_share=0.97), record(seed=1)
    assert not any("left of it" in line for line in made_with([alone, old]))
    *_, line = made_with([alone, record(seed=2, cpu_share=0.52)])
    assert line.endswith("left of it: simclr, seed 2 (52%)")
    assert len(made_with([record(cpu_share=0.52, budget={"epochs": 1})])) == 1, "an epoch is as long on any core"


def test_machines_and_commits_are_said_once():
    trials = [
        record(),
        record("byol", git="def"),
        record("dino", started="2026-01-03T01:02:03"),
        record(machine={"gpu": "G"}),
    ]
    assert made_with(trials) == [
        "2026-01-02 to 2026-01-03, a processor, processes x threads 1 x 1; nolabel 0; commits abc (simclr, dino), def (byol)",
        "2026-01-02, G; nolabel 0; commit abc: simclr",
    ]
    assert made_with([record()])[0].endswith("; commit abc")


def test_what_a_floor_demands():
    margin, loss, share = Floor(10, 3.0), Floor(10, 0.5, "own loss"), Floor(10, 0.5, "own cycle_accuracy")
    assert holds(margin, 23.0, 20.0) and not holds(margin, 22.9, 20.0)
    assert holds(loss, 0.5, 2.0) and not holds(loss, 0.51, 2.0), "of a loss less is better"
    assert holds(share, 0.5, 0.1) and not holds(share, 0.49, 0.1)
    for name, floor in FLOORS.items():
        found = [by for by in (*judged_by(name), f"own {own_of(name)}") if floor_of(name, by) is not None]
        assert found == [floor.by or judged_by(name)[0]], "a criterion that the method has"


def test_a_training_that_lost_what_it_had_learned_is_named():
    steady, lost, old = record(looks=[20.0, 36.0, 35.0]), record(seed=1, looks=[18.0, 36.0, 18.0]), record(seed=2)
    assert "k-NN of these" not in page([steady, old], "nolabel study learning")
    assert "more than 3 points: simclr on d, seed 1 (36.0 to 18.0)." in page(
        [steady, lost, old], "nolabel study learning"
    )


def test_what_is_flat_stands_at_the_head_of_the_table_with_its_own_criterion():
    score = {"protocol": "own loss", "metric": "loss", "value": 0.25, "random_init": 2.0, "raw_input": None}
    flat = record("mae", value=22.0)
    flat["scores"].append(score)
    assert "1 of 2 rows" in (text := page([record(), flat], "nolabel study learning"))
    assert "at this budget:\n\n- mae (own loss 0.250, untrained 2.000)\n" in text
    elsewhere = page([flat, record("mae", data="photos", value=40.0)], "nolabel study learning")
    assert "1 of 2 rows" in elsewhere and "\n- mae on d (" in elsewhere, "data is named where it must be"
    control = page([record("arrow_of_time", data="toyworld:reversible", value=20.0)], "nolabel study learning")
    assert "\n- arrow_of_time: the control, where nothing can be learned\n" in control


def test_what_a_method_is_judged_by():
    assert judged_by("simclr") == ("knn", "linear") and own_of("simclr") is None
    assert judged_by("mae") == ("linear", "fine-tune") and own_of("mae") == "loss"
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        known(["simclrr"])


def test_comparison_has_controls_as_rows_once_a_seed():
    records = [record(seed=0, value=40.0), record(seed=1, value=60.0), record("byol", value=70.0)]
    found = table(records, ["knn"])
    assert [(r["method"], r["knn"], r["seeds"]) for r in found] == [
        ("byol", 70.0, 1), ("simclr", 50.0, 2), ("random init", 20.5, 2), ("raw input", 30.0, 2),
    ]  # fmt: skip
    assert scores(records[:2], ["knn"], "value")["knn_std"] == pytest.approx(14.142, abs=1e-3)
    assert cells_of(found[1], ["knn"]) == ["simclr", "tiny", "50.0 ± 14.1", "60", "100", "200", "2"]
    assert len(head(["knn"])) == 7
    for r in records:
        r["scores"][0]["raw_input"] = None
    assert table(records, ["knn"])[-1]["method"] == "random init", "no row without numbers"


def test_a_method_that_makes_another_encoder_of_it_has_its_own_random_init():
    records = [record(name, seed=seed, value=50.0) for name in ("simclr", "byol", "cmc") for seed in (0, 1)]
    for r in records[-2:]:
        r["scores"][0]["random_init"] = 33.0
    records[2]["scores"][0]["random_init"] += 0.3  # another machine
    found = [(r["method"], r["knn"], r["seeds"]) for r in table(records, ["knn"]) if "init" in r["method"]]
    assert found == [("random init", pytest.approx(20.5, abs=0.16), 2), ("random init of cmc", 33.0, 2)]


def test_methods_with_a_toy_world_of_their_own_have_their_own_controls():
    records = [record(value=40.0, meant="toyworld"), record("rotation", seed=7, value=60.0, meant="toyworld:upright")]
    found = table(records, ["knn"])
    assert [(r["method"], r["data"], r["knn"]) for r in found] == [
        ("rotation", "toyworld:upright", 60.0), ("simclr", "toyworld", 40.0),
        ("random init", "toyworld", 20.0), ("random init", "toyworld:upright", 27.0),
        ("raw input", "toyworld", 30.0), ("raw input", "toyworld:upright", 30.0),
    ]  # fmt: skip
    cells = [head(["knn"], True), cells_of(found[0], ["knn"], True)]
    assert cells[1][:4] == ["rotation", "tiny", "toyworld:upright", "60.0"]
    assert markdown(cells)[1].startswith("| --- | --- | --- | ---: |")


def test_the_listing_is_the_catalogue():
    assert {"learning", "compare"} <= set(names())
    assert all(callable(load(name)) and title(name).endswith(".") and load(name).__doc__ for name in names())


def test_the_command_lists_helps_and_answers_slips_in_one_line(capsys):
    from nolabel.cli import main

    main(["study"])
    said = capsys.readouterr().out
    assert all(f"  {name}" in said for name in names())
    for argv in (["study", "learning", "--help"], ["compare", "--help"]):
        with pytest.raises(SystemExit) as done:
            main(argv)
        said = capsys.readouterr().out
        assert done.value.code == 0 and "--seeds" in said and "--minutes" in said
    for argv, words in (
        (["study", "lerning"], "did you mean 'learning'"),
        (["study", "learning", "simclrr"], "did you mean 'simclr'"),
        (["study", "learning", "simclr", "--protocols", "kn"], "did you mean 'knn'"),
        (["compare", "simclr", "--protocols", "kn"], "did you mean 'knn'"),
        (["compare", "simclr", "--second", "3"], "unknown flag --second ("),
        (["compare"], "methods"),
    ):
        with pytest.raises(SystemExit) as done:
            main(argv)
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert done.value.code == 2 and words in line.lower()


def test_a_failed_trial_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    from nolabel.studies._fill import fill

    def apart(trial, runs, gpu=None):
        if trial.seed == 1:
            raise Failed(f"{trial}: the loss is not finite")
        return record(seed=trial.seed)

    monkeypatch.setattr("nolabel.studies._fill.apart", apart)
    ledger = Ledger(tmp_path / "t.json", lambda records: None)
    with pytest.raises(
        UserError, match=r"1 of 3 trials failed: simclr on d, seed 1: the loss is not finite; the others"
    ):
        fill(ledger, [trial(seed=s) for s in range(3)], None, redo=False)
    assert [r["seed"] for r in ledger.records()] == [0, 2]
    monkeypatch.setattr(
        "nolabel.studies._fill.apart", lambda trial, runs, gpu=None: record(seed=trial.seed, value=99.0)
    )
    fill(ledger, [trial(seed=s) for s in range(2)], None, redo=False)
    assert [r["scores"][0]["value"] for r in ledger.records()] == [50.0, 99.0, 50.0]
    fill(ledger, [trial(seed=0)], None, redo=True)
    assert ledger.records()[0]["scores"][0]["value"] == 99.0


def test_workers_run_side_by_side_each_on_its_share(tmp_path, monkeypatch):
    from nolabel.studies import _fill

    both, used = threading.Barrier(2, timeout=20), []

    def apart(trial, runs, gpu=None):
        both.wait()  # breaks unless two are at it together
        used.append((tuple(os.sched_getaffinity(0)), gpu))
        return record(seed=trial.seed)

    monkeypatch.setattr(_fill, "apart", apart)
    monkeypatch.setattr(_fill, "gpu_count", lambda: 2)
    ledger, mine = Ledger(tmp_path / "t.json", lambda records: None), os.sched_getaffinity(0)
    _fill.fill(ledger, [trial(seed=s) for s in range(6)], None, redo=False, workers=2)
    assert [r["seed"] for r in ledger.records()] == list(range(6)), "none is lost"
    cores, gpus = zip(*used)
    assert set(gpus) == {0, 1} and os.sched_getaffinity(0) == mine
    if len(mine) > 1:
        one, other = set(cores)
        assert not set(one) & set(other) and set(one) | set(other) == mine
    with pytest.raises(UserError, match="--workers must be 1 or more"):
        _fill.fill(ledger, [], None, redo=False, workers=0)


@pytest.mark.parametrize(
    ("visible", "gpu", "seen"), [(None, 1, "1"), ("", 0, "0"), ("4,6", 1, "6"), ("4,6", None, "4,6")]
)
def test_a_worker_sees_its_gpu_only(visible, gpu, seen, monkeypatch):
    from nolabel.studies import _trial

    class Pipe:
        def send(self, found):
            assert found == seen

    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    monkeypatch.setattr(_trial.os, "environ", environ)
    monkeypatch.setattr(_trial, "measure", lambda trial, folder: environ["CUDA_VISIBLE_DEVICES"])
    _trial._work(Pipe(), trial(), None, gpu)


def test_an_error_ends_the_other_workers(tmp_path, monkeypatch):
    """A bug, or SIGTERM, must not leave trainings behind."""
    from nolabel.studies import _fill

    asleep = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))

    def apart(trial, runs, gpu=None):
        if trial.seed == 0:
            asleep.start()
            asleep.join()
            raise Failed("ended")
        while asleep.pid is None:
            time.sleep(0.01)
        raise RuntimeError("a bug")

    monkeypatch.setattr(_fill, "apart", apart)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="a bug"):
        _fill.fill(Ledger(tmp_path / "t.json", print), [trial(seed=s) for s in range(4)], None, redo=False, workers=2)
    assert asleep.exitcode == -signal.SIGTERM and time.monotonic() - start < 30


def test_both_commands_on_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nolabel.studies._trial.FRESH", CLEAN)  # as fresh, and torch is imported already
    write_folder(tmp_path / "pets", 40, height=24)
    out = tmp_path / "out"
    load("learning")(("mae",), data=("pets",), seeds=1, minutes=0.01, out=out, processes=1)
    found = json.loads((out / "learning.json").read_text())
    assert [r["protocol"] for r in found] == ["linear", "fine-tune", "own loss"]
    assert all(r["seeds"] == 1 and r["random_init"] is not None for r in found)
    assert "--data pets" in (out / "learning.md").read_text()
    assert (out / "learning.svg").read_text().startswith("<?xml")

    def nothing_runs(*args):
        raise AssertionError("a finished trial was run again")

    with monkeypatch.context() as m:
        m.setattr("nolabel.studies._fill.apart", nothing_runs)
        load("learning")(("mae",), data=("pets",), seeds=1, minutes=0.01, out=out)
    runs = tmp_path / "runs"
    load("compare")(("rotation",), data="pets", seeds=1, minutes=0.01, out=out, runs=runs, processes=1)
    (row, init, raw) = json.loads((out / "compare-pets.json").read_text())
    assert (row["method"], init["method"], raw["method"]) == ("rotation", "random init", "raw input")
    assert row["seconds"] > 0 and row["samples_per_s"] > 0 and 50 < row["memory"] < 20000
    page = (out / "compare-pets.html").read_text()
    assert "random init" in page and "memory" in page and str(tmp_path) not in page
    (kept,) = [p.name for p in runs.iterdir()]
    assert re.fullmatch(r"rotation-pets-[0-9a-f]{8}-0\.01min-1-seed0", kept)
