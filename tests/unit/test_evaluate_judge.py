import json

import pytest
import torch
from torch import nn

from nolabel.core import UserError
from nolabel.data.columns import ArrayColumn
from nolabel.data.split import Data, Split
from nolabel.encoders import image_encoder
from nolabel.evaluate.baselines import RawInput, random_init
from nolabel.evaluate.features import EvalData, extract, fast_bf16, fingerprint
from nolabel.evaluate.finetune import FineTune
from nolabel.evaluate.geometry import Geometry
from nolabel.evaluate.judge import judge
from nolabel.evaluate.knn import KNN
from nolabel.evaluate.linear import Linear
from nolabel.evaluate.lowshot import LowShot, balanced
from nolabel.evaluate.online import OnlineKNN
from nolabel.views.image import plain


class Net(nn.Module):
    dim = 8

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.dropout = nn.Dropout(0.5)
        self.passes = 0

    def forward(self, x):
        assert not torch.is_grad_enabled()
        self.passes += 1
        return self.dropout(self.body(x))


def transform(batch):
    return plain(batch["image"], 8)


def make_split(count, name, labels=True, seed=0):
    """Classes are brightness: three grey levels under noise."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=rng)
    noise = torch.randint(0, 60, (count, 8, 8, 3), generator=rng)
    columns = {"image": ArrayColumn((noise + 60 * y[:, None, None, None]).byte().numpy())}
    if labels:
        columns["label"] = ArrayColumn(y.numpy())
    return Split(name, columns, ("dark", "middle", "bright") if labels else ())


@pytest.fixture
def data():
    return Data("greys", {"train": make_split(300, "train"), "test": make_split(90, "test", seed=1)})


def test_extract_freezes_the_encoder_and_restores_it(data):
    torch.manual_seed(0)
    net = Net()
    net.body[1].eval()
    vit = image_encoder("tiny_tokens", 32)
    state = fingerprint(vit)
    vit.eval()
    assert fingerprint(vit) == state
    vit.pool = "mean"
    assert fingerprint(vit) != state, "its features are others"
    before = fingerprint(net)
    features = extract(net, data.splits["train"], transform, batch=128)
    assert features.x.shape == (300, 8) and features.x.dtype == torch.float32 and not features.x.requires_grad
    assert features.y.dtype == torch.int64 and torch.equal(features.rows, torch.arange(300))
    assert fingerprint(net) == before  # bit for bit, BatchNorm statistics included
    assert net.training and net.dropout.training and not net.body[1].training
    # evaluation mode: no dropout, no batch statistics
    assert torch.equal(features.x[:128], extract(net, data.splits["train"], transform, rows=torch.arange(128)).x)


def test_modes_are_restored_after_an_error(data):
    net = Net()
    with pytest.raises(RuntimeError):
        extract(net, data.splits["train"], lambda batch: torch.zeros(2, 1, 8, 8))
    assert net.training


def test_bf16_features_are_close_to_fp32_and_float32_in_type(data):
    net = Net()
    exact = extract(net, data.splits["train"], transform, precision="fp32").x
    fast = extract(net, data.splits["train"], transform, precision="bf16").x
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, exact, rtol=0.02, atol=0.02)
    with pytest.raises(UserError):
        extract(net, data.splits["train"], transform, precision="fp8")
    assert isinstance(fast_bf16("cpu"), bool)


def test_one_pass_serves_all_protocols_until_the_weights_change(data):
    net, eval_data = Net(), EvalData(data.splits, transform)
    KNN()(net, eval_data)
    Linear(grid=(0.1,))(net, eval_data)
    Geometry()(net, eval_data)
    assert net.passes == 2
    with torch.no_grad():
        net.body[0].weight.mul_(-1)
    KNN()(net, eval_data)
    assert net.passes == 4


def test_broken_samples_are_left_out(data):
    class Replacing(Split):
        def take(self, rows, columns=None):
            rows = rows.clone()
            rows[rows == 5] = 6
            return super().take(rows, columns)

    train = data.splits["train"]
    features = extract(Net(), Replacing("train", train.columns, train.classes), transform)
    assert features.rows.tolist() == [row for row in range(300) if row != 5]
    assert len(features.x) == len(features.y) == 299


def test_rows_follow_the_schema_and_learned_beats_nothing(data):
    judgement = judge([KNN(), Linear(grid=(0.01, 0.1, 1.0))], Net(), Net, data, transform, seed=3)
    assert judgement.notes == []
    keys = {
        "modality",
        "protocol",
        "version",
        "data",
        "split",
        "metric",
        "value",
        "random_init",
        "raw_input",
        "seed",
        "settings",
    }
    assert all(set(row) == keys for row in judgement.rows)
    by_name = {(row["protocol"], row["metric"]): row for row in judgement.rows}
    knn, linear = by_name["knn", "top1"], by_name["linear", "top1"]
    for row in (knn, linear):
        assert row["data"] == "greys" and row["split"] == "test" and row["seed"] == 3 and row["version"] >= 1
        assert 1 < row["value"] <= 100 and 1 < row["random_init"] <= 100
    assert 1 < knn["raw_input"] <= 100 and linear["raw_input"] is None
    assert knn["settings"] == {"k": 20, "temperature": 0.07, "precision": "auto"}
    assert linear["settings"]["c"] in (0.01, 0.1, 1.0) and linear["settings"]["at_edge"] in (0, 1)
    assert ("geometry", "rankme") in by_name
    json.dumps(judgement.rows, allow_nan=False)


def test_judging_is_repeatable(data):
    torch.manual_seed(0)
    net = Net()
    assert judge([KNN()], net, Net, data, transform) == judge([KNN()], net, Net, data, transform)


def test_controls_are_made_once_for_the_same_samples_and_labels(data, tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path))
    made = []

    def fresh():
        made.append(Net())
        return made[-1]

    def controls(source, protocol=KNN(), seed=3):  # noqa: B008 - frozen
        rows = judge([protocol], Net(), fresh, source, transform, seed=seed).rows
        return [(row["random_init"], row["raw_input"]) for row in rows], made[-1].passes

    first, passes = controls(data)
    again, fewer = controls(data)
    assert again == first and fewer < passes, "only the norms are calibrated"
    assert controls(data, KNN(k=5))[1] == controls(data, seed=4)[1] == passes, "another protocol, another net"
    test = data.splits["test"]
    turned = (test.take(torch.arange(len(test)))["label"] + 1) % len(test.classes)
    other = Split("test", {**test.columns, "label": ArrayColumn(turned.numpy())}, test.classes)
    relabelled = Data("greys", {"train": data.splits["train"], "test": other})
    assert controls(relabelled)[0][0] != first[0], "a label in the middle counts"


def test_infinite_settings_are_strict_json(data):
    rows = judge([KNN(3, float("inf"))], Net(), None, data, transform, raw=()).rows
    assert rows[0]["settings"]["temperature"] == "inf" and rows[0]["random_init"] is None
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("missing", ["labels", "test"])
def test_without_labels_or_test_split_there_is_a_note_and_geometry(missing):
    splits = {"train": make_split(60, "train", labels=missing != "labels")}
    if missing == "labels":
        splits["test"] = make_split(30, "test", labels=False)
    judgement = judge([KNN(), Linear()], Net(), Net, Data("folder", splits), transform)
    assert {row["protocol"] for row in judgement.rows} == {"geometry"}
    assert judgement.rows[0]["split"] == "train"
    assert len(judgement.notes) == 1 and "folder" in judgement.notes[0]
    empty = judge([KNN()], Net(), Net, Data("folder", splits), transform, geometry=None)
    assert empty.rows == [] and empty.notes == judgement.notes


def test_a_diverged_encoder_is_a_note():
    class Diverged(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 8), float("nan"))

    data = Data("greys", {"train": make_split(60, "train"), "test": make_split(30, "test", seed=1)})
    judgement = judge([KNN(), Linear()], Diverged(), None, data, transform)
    assert judgement.rows == [] and len(judgement.notes) == 3 and "not finite" in judgement.notes[0]


def test_random_init_is_calibrated_and_a_function_of_the_seed(data):
    state = torch.get_rng_state()
    net = random_init(Net, data.splits["train"], transform, seed=1, batch=64)
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    statistics = net.body[1].running_mean
    assert not torch.equal(statistics, torch.zeros(8))
    again = random_init(Net, data.splits["train"], transform, seed=1, batch=64)
    other = random_init(Net, data.splits["train"], transform, seed=2, batch=64)
    assert fingerprint(again) == fingerprint(net) != fingerprint(other)


def test_raw_pixels_are_at_most_32_a_side():
    raw = RawInput("image", (3, 64, 48))
    x = torch.rand(2, 3, 64, 48)
    assert raw.dim == 3 * 32 * 32 and raw(x).shape == (2, raw.dim)
    small = torch.rand(2, 3, 8, 8)
    assert torch.equal(RawInput("image", (3, 8, 8))(small), small.flatten(1))


def test_raw_input_of_every_kind():
    clip = torch.rand(2, 3, 8, 32, 32)
    raw = RawInput("video", (3, 8, 32, 32), 16)
    want = torch.stack([clip[:, :, 2 * t : 2 * t + 2].mean(2) for t in range(4)], 2)
    want = want.unflatten(4, (8, 4)).unflatten(3, (8, 4)).mean((4, 6))
    torch.testing.assert_close(raw(clip), want.flatten(1))
    assert RawInput("audio", (1, 40, 96))(torch.rand(2, 1, 40, 96)).shape == (2, 32 * 32)
    assert RawInput("audio", (1, 8000))(torch.rand(2, 1, 8000)).shape == (2, 32 * 32)
    cloud = torch.randn(2, 64, 3)
    raw = RawInput("points", (64, 3))
    assert raw.dim == 4 * 32
    torch.testing.assert_close(raw(cloud), raw(cloud[:, torch.randperm(64)]))
    torch.testing.assert_close(raw(cloud)[:, :32], cloud[:, :, 0].sort().values.unflatten(1, (32, 2)).mean(2))
    ids = torch.tensor([[2, 7, 7, 9, 3, 0], [2, 9, 775, 3, 0, 0]])
    found = RawInput("text", (6,), 16)(ids).expm1().round()
    assert found.shape == (2, 768) and found.sum(1).tolist() == [3, 2]
    assert found[0, 7] == 2 and found[0, 9] == found[1, 9] == found[1, 7] == 1, "775 shares the place of 7"


def test_online_monitor_uses_fixed_disjoint_training_rows(data):
    net = Net()
    monitor = OnlineKNN(data.splits["train"], transform, bank=100, queries=40, seed=5)
    assert not set(monitor.bank_rows.tolist()) & set(monitor.query_rows.tolist())
    assert len(monitor.bank_rows) == 100 and len(monitor.query_rows) == 40
    assert 0 <= monitor(net) <= 100 and monitor(net) == monitor(net) and net.training
    with pytest.raises(UserError):
        OnlineKNN(make_split(50, "train", labels=False), transform)


def test_geometry_shows_a_collapse(data):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 8)

    values = Geometry()(Constant(), EvalData(data.splits, transform))
    assert values["std"] == pytest.approx(0, abs=1e-5)
    assert values["rankme"] == pytest.approx(1, abs=1e-3)
    assert values["uniformity"] == pytest.approx(0, abs=1e-4)


def test_low_shot_draws_are_balanced_nested_and_repeatable():
    y = make_split(600, "train").columns["label"].take(torch.arange(600))
    few, folds = balanced(y, 4, 4, seed=7)
    assert y[few].bincount().tolist() == [4, 4, 4] and folds.bincount().tolist() == [3, 3, 3, 3]
    many, _ = balanced(y, 0.1, 4, seed=7)
    assert set(few.tolist()) < set(many.tolist())
    assert torch.equal(few, balanced(y, 4, 4, seed=7)[0])
    assert not torch.equal(few, balanced(y, 4, 4, seed=8)[0])
    assert len(balanced(y, 0.001, 4, seed=0)[0]) == 3  # at least one of each class


@pytest.mark.parametrize("labels", [1, 4, 0.1])
def test_low_shot(data, labels):
    linear = Linear(grid=(0.01, 0.1, 1.0), iterations=30)
    result = LowShot(labels, draws=2, linear=linear)(random_init(Net, data.splits["train"], transform), eval_of(data))
    assert set(result) == {"top1", "top1_std"} and 40 < result["top1"] <= 100 and result["top1_std"] >= 0


def eval_of(data):
    return EvalData(data.splits, transform, precision="fp32")


def test_fine_tuning_learns_on_a_copy_and_repeats(data):
    torch.manual_seed(0)
    net = TrainableNet()
    before = fingerprint(net)
    protocol = FineTune(epochs=10, batch=32, rates=(1e-5, 3e-3))
    result = protocol(net, eval_of(data))
    assert fingerprint(net) == before and net.training
    assert result["top1"] > 80 and result["rate"] == 3e-3 and result["at_edge"] == 1
    assert protocol(net, eval_of(data)) == result


def test_fine_tuning_never_chooses_by_the_test_split(data):
    wrong = make_split(90, "test", seed=1)
    wrong.columns["label"] = ArrayColumn(((wrong.columns["label"].take(torch.arange(90)) + 1) % 3).numpy())
    torch.manual_seed(0)
    net, protocol = TrainableNet(), FineTune(epochs=2, batch=32, rates=(1e-5, 3e-3))
    right = protocol(net, eval_of(data))
    other = protocol(net, EvalData({**data.splits, "test": wrong}, transform, precision="fp32"))
    assert right["rate"] == other["rate"] and right["top1"] != other["top1"]


def test_fine_tuning_on_few_samples_sees_no_others(data, monkeypatch):
    train, seen = data.splits["train"], set()
    take = type(train).take

    def watched(split, rows, *args):
        seen.update(rows.tolist() if split is train else [])
        return take(split, rows, *args)

    monkeypatch.setattr(type(train), "take", watched)
    FineTune(epochs=4, batch=5, samples=10, rates=(1e-3,))(TrainableNet(), eval_of(data))
    assert len(seen) == 10 < len(train)


def test_augmentation_shifts_and_flips_by_whole_pixels():
    x = torch.arange(2 * 3 * 8 * 8).float().view(2, 3, 8, 8)
    moved = FineTune()._augment(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape and set(moved.flatten().tolist()) <= set(x.flatten().tolist())
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(FineTune(shift=0)._augment(x, torch.Generator()), x)


class TrainableNet(Net):
    def forward(self, x):
        return self.body(x)
