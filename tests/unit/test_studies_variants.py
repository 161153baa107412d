"""Studies of variants: what is declared fits the methods, findings follow the numbers, finished trials are kept."""

import dataclasses
import itertools
import json
import math

import pytest
import torch

from nolabel import methods, recipes, resolve
from nolabel.core import DataInfo, UserError
from nolabel.core.fields import to_json
from nolabel.core.random import generator
from nolabel.encoders import make
from nolabel.options import Options
from nolabel.studies import load
from nolabel.studies._fill import fill
from nolabel.studies._findings import Cell, inequality, order, spearman
from nolabel.studies._ledger import Ledger
from nolabel.studies._trial import Trial, apart
from nolabel.studies._variants import How, ladder, merged
from nolabel.views.image import TwoViews
from tests.support import build
from tests.unit.data_files import write_folder

NAMES = (
    "augmentations", "batch_size", "few_labels", "fewer_augmentations", "negatives", "moco_ladder", "dinov2_ladder"
)  # fmt: skip

FIGURE_5 = {
    "crop": 33.0,
    "colour": 19.0,
    "blur": 3.0,
    "crop + colour": 56.0,
    "crop + blur": 35.0,
    "colour + blur": 16.0,
}
FEWER = {"all": 0.0, "no grey": 1.0, "no colour": 2.0, "crop + blur": 3.0, "crop": 4.0}


def as_the_paper(trial):
    """A made-up score that stands as the paper's do."""
    name, fall = trial.variant, 3.0 if trial.method == "simclr" else 1.0
    if name.endswith(" labels"):
        return 50 + 10 * (trial.method != "supervised") + math.log2(int(trial.fields["labels"]))
    if ", batch " in name:
        return 60 - fall * (9 - math.log2(trial.fields["batch"]))
    if name in FIGURE_5 or (trial.method == "simclr" and "one_sided" in trial.fields.get("views", ())):
        return FIGURE_5.get(name, 10.0 + len(name) / 10)
    if name.startswith(("SimCLR", "BYOL")):
        return 60 - fall * FEWER[name.partition(", ")[2]]
    if name.startswith(("MoCo", "memory bank", "end-to-end")):
        label, _, count = name.partition(", ")
        return 40 + 2 * math.log2(int(count)) - 3 * (label == "memory bank")
    rows = load_module(trial.method)
    return rows[name]


def load_module(method):
    from nolabel.studies import dinov2_ladder, moco_ladder

    return moco_ladder.PAPER if method == "moco_v2" else {row.name: row.linear for row in dinov2_ladder.table_1(32)}


@pytest.fixture
def faked(monkeypatch):
    """Trials that end at once; a dict of the function that scores them and a list of those that ran."""
    state = {"score": as_the_paper, "ran": []}

    def trained(trial, runs=None, gpu=None):
        state["ran"].append(trial)
        value = state["score"](trial) + 0.2 * (trial.seed - 1)
        scores = [
            {"protocol": p, "metric": "top1", "value": value, "random_init": 12.0, "raw_input": 9.0, "settings": {}}
            for p in trial.protocols
        ]
        made = dict(zip(("method", "data", "variant", "seed"), trial.key))
        about = {"processes": 1, "started": "2026-01-02T03:04:05", "versions": {"nolabel": "0"}, "git": "abc"}
        machine = {"gpu": None, "cpu": "a processor", "threads": 1}
        fields = {"budget": trial.budget, "fields": to_json(trial.fields), "scores": scores, "alarms": []}
        return json.loads(json.dumps({**made, **fields, **about, "machine": machine}))

    def fill_at_once(ledger, *rest):
        publish, ledger.publish = ledger.publish, lambda records: None
        try:
            fill(ledger, *rest)
        finally:
            ledger.publish = publish
            ledger.refresh()

    monkeypatch.setattr("nolabel.studies._fill.apart", trained)
    monkeypatch.setattr("nolabel.studies._variants.fill", fill_at_once)  # drawn once, not after each trial
    return state


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_whether_the_paper_shows(name, faked, tmp_path):
    how = How(seeds=3, out=tmp_path)
    load(name)(how=how)
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["findings"] and all("; shows at this size." in line for line in found["findings"]), found["findings"]
    protocols = {"classify"} if name == "few_labels" else {"linear", "knn"}
    assert {row["protocol"] for row in found["rows"]} == protocols
    assert len(found["rows"]) * 3 == len(protocols) * len(faked["ran"]) and all(
        row["seeds"] == 3 for row in found["rows"]
    )
    text, picture = (tmp_path / f"{name}.md").read_text(), (tmp_path / f"{name}.svg").read_text()
    assert all(line in text for line in found["findings"]) and f"({name}.svg)" in text
    assert f"nolabel study {name} --data toyworld --seeds 3 --minutes 2" in text and str(tmp_path) not in text
    assert picture.startswith("<?xml") and text.startswith("# ") and "?\n\n" in text

    ran = len(faked["ran"])
    load(name)(how=how)
    assert len(faked["ran"]) == ran, "finished trials were run again"
    assert (tmp_path / f"{name}.svg").read_text() == picture

    faked["score"] = lambda trial: 100 - as_the_paper(trial)
    load(name)(how=dataclasses.replace(how, redo=True))
    said = json.loads((tmp_path / f"{name}.json").read_text())["findings"]
    assert not any("; shows" in line for line in said), said


@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared_fits_method_and_recipe(name, faked, tmp_path):
    load(name)(how=How(seeds=1, out=tmp_path))
    options = {f.name for f in dataclasses.fields(Options)}
    assert len({t.variant for t in faked["ran"]}) == len(faked["ran"]) == len({t.name for t in faked["ran"]})
    seen = []
    for trial in faked["ran"]:
        kind, size = methods.load(trial.method), trial.fields.get("size", 32)
        fields = {k: v for k, v in trial.fields.items() if k not in options}
        made = resolve._made(kind, recipes.find("tiny", trial.method, size), fields, size)
        seen.append((trial.method, str(to_json(made)), str({k: v for k, v in trial.fields.items() if k in options})))
        assert trial.fields.get("batch", 2) % 2 == 0
    assert len(set(seen)) == len(seen), "two variants are the same training"


def test_a_part_of_the_trials_is_a_page_too(faked, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def some(trial):
        if len(faked["ran"]) > 4:
            raise Stop
        return as_the_paper(trial)

    faked["score"] = some
    for name in NAMES:
        faked["ran"].clear()
        with pytest.raises(Stop):
            load(name)(how=How(seeds=2, out=tmp_path))
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(found["rows"]) == (4 if name == "few_labels" else 8) and (tmp_path / f"{name}.svg").exists()
        assert any("open" in line for line in found["findings"])


def test_the_table_of_another_budget_or_definition_is_another(faked, tmp_path):
    how = How(seeds=1, out=tmp_path)
    load("moco_ladder")(how=how)
    ran = len(faked["ran"])
    load("moco_ladder")(how=dataclasses.replace(how, minutes=1.0))
    assert len(faked["ran"]) == 2 * ran
    lengths = [t.fields.get("minutes", t.budget["minutes"]) for t in faked["ran"]]
    assert lengths == [2.0] * 5 + [8.0] + [1.0] * 5 + [4.0]
    ledger = Ledger(tmp_path / "moco_ladder-trials.json", lambda records: None)
    trial = faked["ran"][-1]
    assert ledger.has(trial)
    assert not ledger.has(dataclasses.replace(trial, fields={**trial.fields, "hidden": 7}))
    assert not ledger.has(dataclasses.replace(trial, variant="another"))
    assert not ledger.has(dataclasses.replace(trial, protocols=("fine-tune",)))


def test_options_that_choose_variants(faked, tmp_path):
    load("dinov2_ladder")(how=How(seeds=1, out=tmp_path, encoder="vit_tiny_patch16_224", size=64))
    assert [t.variant for t in faked["ran"]][-1] == "+ untied heads: DINOv2" and len(faked["ran"]) == 9
    assert not any("encoder" in t.fields for t in faked["ran"])
    faked["ran"].clear()
    load("negatives")(numbers=(16, 64), end_to_end=16, how=How(seeds=1, out=tmp_path, batch=32))
    assert [(t.method, t.fields["batch"]) for t in faked["ran"]] == [
        ("simclr", 8), ("instance_discrimination", 32), ("instance_discrimination", 32), ("moco_v2", 32), ("moco_v2", 32),
    ]  # fmt: skip
    for call in (
        lambda: load("negatives")(numbers=(63, 64)),
        lambda: load("batch_size")(batches=(64,)),
        lambda: load("moco_ladder")(how=How(protocols=("kn",))),
        lambda: load("moco_ladder")(how=How(seeds=0)),
        lambda: load("dinov2_ladder")(how=How(size=36)),
    ):
        with pytest.raises(UserError):
            call()


def test_the_command_takes_the_shared_flags(faked, tmp_path, capsys):
    from nolabel.cli import main

    main(["study", "batch_size", "--batches", "64", "16", "--seeds", "2", "--protocols", "knn", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert (
        "| SimCLR, batch 16 | simclr | 44.9 ± 0.1 | 12.0 | 2 |" in said
        and "linear" not in said
        and len(faked["ran"]) == 8
    )
    with pytest.raises(SystemExit):
        main(["study", "augmentations", "--help"])
    assert "--minutes" in (said := capsys.readouterr().out) and "--how" not in said


# findings


def test_rank_correlation_is_spearmans_and_its_chance_is_exact():
    from scipy.stats import spearmanr

    for ours in itertools.islice(itertools.permutations([1.0, 2.0, 2.5, 4.0, 7.0]), 0, 120, 7):
        theirs = [1, 2, 2, 3, 5]
        assert spearman(ours, theirs)[0] == pytest.approx(spearmanr(ours, theirs).statistic, abs=1e-12)
    assert spearman([1, 2, 3, 4], [5, 6, 7, 8]) == (pytest.approx(1.0), pytest.approx(1 / 24))
    assert spearman([4, 3, 2, 1], [5, 6, 7, 8]) == (pytest.approx(-1.0), 1.0)
    assert spearman([1, 1, 1], [1, 2, 3]) == (0.0, 1.0)
    rho, chance = spearman([1, 2, 3, 4, 5, 6, 8, 7, 9, 10], list(range(10)))
    assert rho == pytest.approx(1 - 6 * 2 / 990) and chance < 1e-3


def test_an_inequality_asks_for_more_than_the_spread():
    def table(*values, other=10.0):
        return {"a": Cell(dict(enumerate(values))), "b": Cell(dict.fromkeys(range(len(values)), other))}

    weights = {"a": 1.0, "b": -1.0}
    said = inequality("a above b", table(11.0, 12.0, 13.0), weights)
    # 2 +- t(0.975, 2) / sqrt(3) = 2 +- 2.48
    assert said == "a above b: +2.0 points, -0.5 to +4.5 over 3 seeds; open, the interval holds 0 at this size."
    assert "; shows at" in inequality("", table(11.9, 12.0, 12.1), weights)
    assert "; is the other way round at" in inequality("", table(7.9, 8.0, 8.1), weights)
    assert "open, the spread needs two seeds" in inequality("", table(12.0), weights)
    assert "open, c is not measured" in inequality("", table(12.0), {"c": 1.0})
    lone = {"a": Cell({0: 1.0}), "b": Cell({1: 1.0})}
    assert "no seed has all of it; open" in inequality("", lone, weights)


def test_an_order_says_how_much_of_it_is_chance():
    table = {name: Cell({0: v, 1: v + 1}) for name, v in zip("abcd", (1.0, 5.0, 8.0, 9.0))}
    paper = dict(zip("abcd", (60.0, 61.0, 63.0, 70.0)))
    said = order("Order", table, paper)
    assert "correlation +1.00 (+1.00 to +1.00 by seed) over 4 variants" in said and "in 4.2 % of" in said
    assert "does not show" in order("Order", table, {k: -v for k, v in paper.items()})
    assert "over 4 of 5 variants" in order("Order", table, {**paper, "e": 1.0})
    assert "open, 2 of 4" in order("Order", {k: table[k] for k in "ab"}, paper)


def test_a_ladder_adds_up():
    rows = ladder([("a", {}), ("b", {"views": {"x": 2}}), ("c", {"y": 3})], {"views": {"x": 1, "z": 1}})
    assert rows[0][1] == {"views": {"x": 1, "z": 1}} and rows[1][1] == {"views": {"x": 2, "z": 1}}
    assert rows[2][1] == {"views": {"x": 2, "z": 1}, "y": 3}
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


# what the studies ask of views, heads and encoders


def test_one_sided_views_leave_one_branch_as_it_is():
    image = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator(0))
    maker = TwoViews(size=24, one_sided=True)
    one, two = (maker({"image": image}, generator(seed)) for seed in (1, 2))
    assert torch.equal(one["a"], two["a"]) and not torch.equal(one["b"], two["b"])
    torch.testing.assert_close(one["a"], maker.plain({"image": image})["image"], atol=1e-3, rtol=0)
    both = dataclasses.replace(maker, one_sided=False)
    views = both({"image": image}, generator(1))
    assert not torch.equal(views["a"], one["a"])
    assert maker.each()[1] == both.each()[1] and maker.each()[0].scale == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "size", "length", "hidden"), [("drop", 32, 64, 384), ("swiglu", 32, 64, 256), ("ninth", 36, 81, 256)]
)
def test_encoders_of_the_dinov2_ladder(name, size, length, hidden):
    net = make(f"tiny_hybrid_{name}", (3, size, size))
    plain = make("tiny_hybrid", (3, 32, 32))
    assert net.length == length and net.patch == 4
    blocks = list(net.net.blocks)
    assert blocks[0].mlp.fc2.in_features == hidden and torch.all(blocks[0].ls1.gamma == 0.1)
    assert blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)
    sizes = [sum(p.numel() for p in n.parameters()) for n in (net, plain)]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[1]
    x = torch.randn(2, 3, size, size)
    assert net.train()(x[:1].repeat(64, 1, 1, 1)).std(0).max() > 1e-3, "every sample has a depth of its own"
    assert torch.equal(net.eval()(x), net(x)) and net(x[..., :20, :20]).shape == (2, 96)


def test_simclr_with_a_linear_head():
    method = methods.load("simclr")(hidden=0, out=16)
    method.build(DataInfo(64, shapes={"image": (32, 32, 3)}), make("tiny", (3, 32, 32)))
    assert [type(m).__name__ for m in method.projector] == ["Linear"]


def test_dinov2_centres_in_full_precision():
    from nolabel.core import Clock

    method, t, rng = build("dinov2", sinkhorn=False, center_momentum=0.0), Clock(0, 10, 5), generator(0)
    logits, weight = torch.randn(6, method.prototypes, generator=rng), torch.tensor([1.0, 1, 0, 1, 0, 0])
    with torch.autocast("cpu", torch.bfloat16):
        p = method.targets(logits, 1, t, weight)
    # the centre of this batch moves the next one
    torch.testing.assert_close(method.center[1], logits[[0, 1, 3]].mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(p, (logits / t.linear(*method.teacher_temperature, 30)).softmax(-1))


def test_the_fields_of_a_variant_reach_its_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pets", 40, height=24)
    fields = {"hidden": 0, "batch": 8, "views": {"one_sided": True, "blur": (0.0, 0.5)}}
    trial = Trial(
        "simclr", "pets", 0, {"steps": 2}, ("knn",), how={"processes": 1}, variant="crop + blur", fields=fields
    )
    record = json.loads(json.dumps(apart(trial, tmp_path / "runs")))
    assert record["variant"] == "crop + blur" and record["fields"] == to_json(fields) and record["steps"] == 2
    ledger = Ledger(tmp_path / "t.json", lambda records: None)
    ledger.add(record)
    assert ledger.has(trial) and str(trial) == "simclr (crop + blur) on pets, seed 0"
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == trial.name and folder.name.startswith("simclr-crop-blur-")
    run = json.loads((folder / "run.json").read_text())
    assert run["fields"]["views"]["one_sided"] and run["fields"]["views"]["blur"] == [0.0, 0.5]
    assert run["settings"]["batch"] == 8 and run["fields"]["hidden"] == 0


def test_labels_are_for_methods_that_learn_from_them(faked, tmp_path):
    few = load("few_labels")
    with pytest.raises(UserError, match="simclr learns from no labels"):
        few(methods=("supervised", "simclr"), how=How(out=tmp_path))
    with pytest.raises(UserError, match="at least two numbers of labels"):
        few(labels=(40,), how=How(out=tmp_path))
    few(labels=(250, 40), methods=("fixmatch",), how=How(seeds=1, out=tmp_path, protocols=("knn",)))
    assert [(t.fields, t.protocols) for t in faked["ran"]] == [
        ({"labels": "40"}, ("knn",)),
        ({"labels": "250"}, ("knn",)),
    ]
    assert json.loads((tmp_path / "few_labels.json").read_text())["findings"] == [], "no control, nothing to say"
