import pytest
import torch

from nolabel.core import UserError, labelled_rows
from nolabel.data import ArrayColumn, Data, Source, Split, give, given, open_data
from nolabel.data.labels import few
from tests.unit.data_files import write_folder


def data(count=100, classes=5, truth=True):
    values = torch.arange(count)
    columns = {"image": ArrayColumn(values[:, None])}
    if truth:
        columns["label"] = ArrayColumn(values % classes)
    split = Split("train", columns, tuple("abcde") if truth else ())
    split.names = lambda row: f"{'even' if row % 2 == 0 else 'odd'}/{row // 2}.jpg" if row < 20 else f"x/{row}.jpg"
    return Data("numbers", {"train": split})


def test_few_are_balanced_seeded_and_nested():
    label = torch.randint(-1, 7, (900,), generator=torch.Generator().manual_seed(0))
    small, large = few(label, 14, 3), few(label, 70, 3)
    assert torch.equal(label[small].bincount(), torch.full((7,), 2))
    assert torch.equal(label[large].bincount(), torch.full((7,), 10))
    assert set(small.tolist()) < set(large.tolist())
    assert torch.equal(few(label, 14, 3), small) and not torch.equal(few(label, 14, 4), small)
    odd = label[few(label, 17, 0)].bincount()
    assert odd.sum() == 17 and odd.max() - odd.min() == 1


def test_few_take_all_of_small_classes():
    label = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)
    assert label[few(label, 23, 0)].bincount().tolist() == [10, 3, 10]
    for total in (2, 104):
        with pytest.raises(UserError, match=f"--labels {total}: choose at least one for each of 3"):
            few(label, total, 0)


def test_given_labels_leave_the_truth_alone():
    d = data()
    assert torch.equal(given(d.splits["train"]), torch.arange(100) % 5)
    give(d, "10", seed=1)
    seen = given(d.splits["train"])
    assert (seen >= 0).sum() == 10 and torch.equal(seen[seen >= 0], (torch.arange(100) % 5)[seen >= 0])
    assert torch.equal(d.splits["train"].take(torch.arange(100))["label"], torch.arange(100) % 5)
    assert set(d.info.shapes) == {"image"}


def test_labels_of_a_file(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("file,label\neven/3.jpg,cat\n29.jpg,dog\n\nodd/3.jpg, dog\n")
    d = data(truth=False)
    give(d, str(file))
    assert d.splits["train"].classes == ("cat", "dog")
    seen = given(d.splits["train"])
    assert {int(i): int(seen[i]) for i in (seen >= 0).nonzero()[:, 0]} == {6: 0, 29: 1, 7: 1}


@pytest.mark.parametrize("cache", ["auto", "never"])
def test_labels_of_files_held_out_or_broken_are_not_used(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    root = write_folder(tmp_path / "pets", 20)
    (root / "cat" / "bad.jpg").write_bytes(b"no image")
    lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.jpg"))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    d = open_data(root, cache=cache)
    train, test = d.splits["train"], d.splits["test"]
    give(d, str(tmp_path / "labels.csv"))
    assert len(test) == 2 and torch.equal(given(train), train.columns["label"].take(torch.arange(len(train))))
    unused = 3 if cache == "auto" else 2
    assert d.notes[-1].startswith(f"{unused} labels of labels.csv are not used") and len(train) + unused == 21
    (tmp_path / "labels.csv").write_text(f"{test.name_of(0)},zebra")
    with pytest.raises(UserError, match="no known class 'zebra'"):
        give(d, str(tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("even/3.jpg,a\neven/77.jpg,b", "has no file 'even/77.jpg'"),
        ("3.jpg,a", "has no file '3.jpg'"),
        ("even/3.jpg,zebra", "no known class 'zebra'"),
        ("even/3.jpg,a\neven/3.jpg,b", "two labels"),
        ("even/3.jpg,--0", "no known class '--0'"),
        ("even/3.jpg,²", "no known class '²'"),
        ('even/3.jpg,"a\nb"', r"no known class 'a\\nb'"),
        ("even/3.jpg," + "x" * 200_000, "cannot be read as a CSV file"),
        ("x" * 100_000 + ",a", "has no file 'x{100}'"),
        ("even/3.jpg", "every line must be file,label"),
        ("", "every line must be file,label"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, why):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=why) as told:
        give(data(), str(file))
    assert "\n" not in str(told.value)


def test_data_without_labels():
    for wanted in (None, "40"):
        with pytest.raises(UserError, match="--labels FILE"):
            give(data(truth=False), wanted)
    for nowhere in ("/nowhere/labels.csv", "²", "9" * 5000, "\0"):
        with pytest.raises(UserError, match="cannot be read"):
            give(data(), nowhere)


def batches(source, seed, steps):
    return [source.at(seed, step) for step in steps]


def test_first_rows_are_labelled_and_the_others_are_not():
    d = data()
    give(d, "10")
    known = (given(d.splits["train"]) >= 0).nonzero()[:, 0].tolist()
    source = Source(d.splits["train"], 16, labelled=0.25)
    assert source.epoch_steps == 90 // 12
    for batch in batches(source, 3, range(20)):
        assert torch.equal(batch["label"][:4], batch["index"][:4] % 5) and (batch["label"][4:] == -1).all()
        assert set(batch["index"][:4].tolist()) <= set(known)
        assert not set(batch["index"][4:].tolist()) & set(known)
        assert torch.equal(batch["image"][:, 0], batch["index"])
    first = torch.cat([b["index"][:4] for b in batches(source, 3, range(20))])
    for k in range(8):  # passes of ten, each over all
        assert sorted(first[10 * k : 10 * k + 10].tolist()) == known
    rest = torch.cat([b["index"][4:] for b in batches(source, 3, range(15))])
    assert len(set(rest[:90].tolist())) == 90 == len(set(rest[90:180].tolist()))


def test_order_is_a_pure_function_of_seed_and_step_on_any_number_of_ranks():
    d = data()
    give(d, "10")
    split = d.splits["train"]
    whole = Source(split, 16, labelled=0.25)
    other = Source(split, 16, labelled=0.25)
    for step in (17, 3, 0, 18):
        want = whole.at(1, step)
        assert torch.equal(other.at(1, step)["index"], want["index"])
        for world in (2, 4):
            parts = [Source(split, 16, labelled=0.25, rank=r, world=world).at(1, step) for r in range(world)]
            known = 4 // world
            assert torch.equal(torch.cat([p["index"][:known] for p in parts]), want["index"][:4])
            assert torch.equal(torch.cat([p["index"][known:] for p in parts]), want["index"][4:])
    assert not torch.equal(whole.at(2, 0)["index"], whole.at(1, 0)["index"])


def test_all_rows_labelled():
    d = data()
    give(d, "10")
    source = Source(d.splits["train"], 16, labelled=1.0)  # more rows than labels
    assert source.epoch_steps == 1 and (source.at(0, 5)["label"] >= 0).all()
    give(d, None)
    both = Source(d.splits["train"], 16, labelled=0.5).at(0, 0)
    assert (both["label"][8:] == -1).all() and (both["label"][:8] >= 0).all()


def test_rows_with_labels():
    assert [labelled_rows(s, 16) for s in (0, 0.01, 1 / 8, 0.5, 1.0)] == [0, 1, 2, 8, 16]
