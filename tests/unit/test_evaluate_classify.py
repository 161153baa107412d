"""Classifiers that methods train: judged beside a net trained on the same labels alone, from the command's verbs on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import nolabel
from nolabel import trained
from nolabel.core import Method, UserError
from nolabel.data import ArrayColumn, Data, Split, give, open_data
from nolabel.evaluate import Classifier, Classify, judge
from nolabel.evaluate.features import EvalData
from nolabel.evaluate.finetune import FineTune
from nolabel.views.image import plain


class Bright(nn.Module):
    """Tells three grey levels by their mean."""

    dim = 3

    def forward(self, x):
        level = x.mean((1, 2, 3))[:, None]
        return -(level - torch.tensor([-1.6, -0.5, 0.6])).square()


class Knows(Method):
    def build(self, data, image):
        self.encoder = image

    def predict(self, x):
        return self.encoder(x)


class Ignorant(Method):
    def build(self, data, image):
        self.encoder = image


def greys(count, seed):
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=rng)
    image = (torch.randint(0, 60, (count, 8, 8, 3), generator=rng) + 60 * y[:, None, None, None]).byte()
    return Split("greys", {"image": ArrayColumn(image), "label": ArrayColumn(y)}, ("dark", "middle", "bright"))


@pytest.fixture
def data():
    return Data("greys", {"train": greys(300, 0), "test": greys(90, 1)})


def transform(batch):
    return plain(batch["image"], 8)


def made(kind):
    method = kind(views=None)
    method.build(None, Bright())
    return Classifier(method)


def fresh():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
    net.dim = 16
    return net


def test_accuracy_of_the_classifier(data):
    split = data.splits["test"]
    stored = split.take(torch.arange(90))
    right = (Bright()(transform(stored)).argmax(1) == stored["label"]).float().mean()
    result = Classify()(made(Knows), EvalData(data.splits, transform))
    assert result == pytest.approx({"top1": 100 * float(right)}) and result["top1"] > 60
    with pytest.raises(UserError, match="Ignorant trains no classifier"):
        Classify()(made(Ignorant), EvalData(data.splits, transform))


def test_control_sees_the_given_labels_alone(data):
    give(data, "3", seed=0)
    few = EvalData(data.splits, transform)
    before = {k: v.clone() for k, v in fresh().state_dict().items()}
    net = fresh()
    poor = Classify(steps=60)(net, few)["top1"]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    hidden = data.splits["train"].columns["given"].array >= 0
    label = data.splits["train"].columns["label"].array
    wrong = torch.where(hidden, label, (label + 1) % 3)  # every label that was not given is wrong
    data.splits["train"].columns["label"] = ArrayColumn(wrong)
    assert Classify(steps=60)(net, EvalData(data.splits, transform))["top1"] == poor
    assert poor > 34


def test_the_control_is_that_of_the_labels_that_were_given(data, tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path))
    monkeypatch.setattr(FineTune, "at_rate", lambda self, net, data, rows, rate: {"top1": float(len(rows))})

    def control(labels):
        give(data, labels)
        rows, _ = judge([Classify()], made(Knows), fresh, data, transform, geometry=None, raw=())
        return rows[0]["random_init"]

    assert [control("6"), control("9"), control("6")] == [6.0, 9.0, 6.0], "few rows are labelled, and none looked at"


def test_rows_of_results(data):
    give(data, "30")
    rows, notes = judge([Classify(steps=60)], made(Knows), fresh, data, transform, geometry=None, raw=())
    (row,) = rows
    assert not notes and row["protocol"] == "classify" and row["metric"] == "top1" and row["raw_input"] is None
    assert row["value"] > 60 and row["random_init"] > 34
    json.dumps(rows, allow_nan=False)
    plain_data = Data("bare", {"train": Split("t", {"image": data.splits["train"].columns["image"]}),
                               "test": data.splits["test"]})  # fmt: skip
    rows, notes = judge([Classify()], made(Knows), fresh, plain_data, transform, geometry=None, raw=())
    assert not rows and "no labels" in notes[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """80 small pictures of two kinds, in two folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for kind, colour in (("cold", 40), ("warm", 200)):
        (folder / kind).mkdir(parents=True)
        for i in range(40):
            base = rng.integers(0, 50, (24, 24, 3)) + np.array([colour, 100, 240 - colour])
            Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{i}.png")
    return folder


SHORT = {"steps": 3, "batch": 16, "quiet": True, "evaluate": ("knn",), "processes": 1}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setitem(trained.PROTOCOLS, "classify", lambda: Classify(steps=20))


def test_train_with_a_number_of_labels(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = nolabel.train("fixmatch", data=photos, labels="4", dir="a", **SHORT)
    by_protocol = {r["protocol"]: r for r in run.results}
    assert {"knn", "classify"} <= set(by_protocol)
    first = by_protocol["classify"]
    assert 0 <= first["value"] <= 100 and first["random_init"] >= 0
    seen = run.built.data.splits["train"].columns["given"].array
    assert (seen >= 0).sum() == 4 and torch.equal(seen[seen >= 0].bincount(), torch.tensor([2, 2]))
    again = nolabel.load("a")
    again.judge(protocols=("classify",))
    assert [r for r in again.results if r["protocol"] == "classify"] == [first], "from the checkpoint, the same numbers"


def test_train_with_a_file_of_labels(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "labels.csv"
    lines = "file,label\n" + "".join(f"{kind}/{i}.png,{kind}\n" for kind in ("cold", "warm") for i in range(40))
    file.write_text(lines + "cold/40.png,cold\n")
    with pytest.raises(UserError, match=r"has no file 'cold/40\.png'"):
        nolabel.train("supervised", data=photos, labels=str(file), **SHORT)
    file.write_text(lines)  # a tenth is held out for testing
    run = nolabel.train("supervised", data=photos, labels=str(file), dir="a", **SHORT)
    assert (run.built.data.splits["train"].columns["given"].array >= 0).sum() == 72
    assert "8 labels of labels.csv are not used: their files are for testing, or cannot be read" in run.built.data.notes
    names = open_data(photos).splits["train"]
    two = [names.name_of(i) for i in (0, len(names) - 1)]
    file.write_text("".join(f"{name},{name.split('/')[0]}\n" for name in two))
    run = nolabel.train("supervised", data=photos, labels="labels.csv", dir="b", **SHORT)
    assert (run.built.data.splits["train"].columns["given"].array >= 0).sum() == 2
    assert run.plan.labels == str(file)


def test_slips(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="simclr learns from no labels; leave --labels out"):
        nolabel.train("simclr", data=photos, labels="4", **SHORT)
    with pytest.raises(UserError, match="--labels 1: choose at least one for each of 2 classes"):
        nolabel.train("fixmatch", data=photos, labels="1", **SHORT)
    assert not list(tmp_path.glob("runs/*"))
