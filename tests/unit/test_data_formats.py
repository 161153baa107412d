import io
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from nolabel.core import UserError
from nolabel.data import at_rest, open_data, shards
from nolabel.data.files import expand
from nolabel.data.holdout import held_out
from nolabel.data.listing import number
from nolabel.data.size import stored_size
from tests.unit.data_files import CLASSES, encode, jpeg, pixels, write_folder, write_parquet, write_tar


@pytest.fixture(autouse=True)
def cache_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def opened(spec, **options):
    return open_data(str(spec), **{"test_fraction": 0, **options})


def decode_reference(blob: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(blob)))


def images(split) -> torch.Tensor:
    return split.take(torch.arange(len(split)))["image"]


# folders


def test_folder_with_classes(tmp_path):
    data = opened(write_folder(tmp_path / "pets"))
    train = data.splits["train"]
    batch = train.take([0, 7, 0])
    assert list(data.splits) == ["train"] and len(train) == 8 and train.classes == CLASSES
    assert batch["image"].shape == (3, 40, 40, 3) and batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [0, 1, 0] and batch["index"].tolist() == [0, 7, 0]
    assert train.name_of(7) == "dog/007.jpg"
    assert data.info.size == 8 and data.info.classes == CLASSES and data.info.shapes == {"image": (40, 40, 3)}


def test_folder_splits(tmp_path):
    for split, count in (("train", 6), ("val", 4)):
        write_folder(tmp_path / "set" / split, count)
    data = opened(tmp_path / "set")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 6, "test": 4}
    assert data.splits["test"].take([0, 3])["label"].tolist() == [0, 1] and data.splits["test"].name == "test"


def test_a_class_may_be_called_train(tmp_path):
    data = opened(write_folder(tmp_path / "vehicles", 6, ("bus", "car", "train")))
    assert data.splits["train"].classes == ("bus", "car", "train")


def test_folder_without_classes(tmp_path):
    flat = opened(write_folder(tmp_path / "flat", classes=()))
    assert flat.splits["train"].classes == () and "label" not in flat.splits["train"].columns
    mixed = write_folder(tmp_path / "mixed")
    (mixed / "loose.jpg").write_bytes(jpeg(1))
    data = opened(mixed)
    assert "label" not in data.splits["train"].columns and "1 images lie beside" in data.notes[0]


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "extra"])
def test_a_folder_without_labels_beside_the_splits_is_for_training(tmp_path, name):
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        write_folder(tmp_path / "stl" / split, count)
    write_folder(tmp_path / "stl" / name, 3, ())
    data = opened("stl")
    train, test = data.splits["train"], data.splits["test"]
    assert train.classes == test.classes == CLASSES and len(test) == 4
    found = {train.name_of(i): int(train.take([i])["label"]) for i in range(len(train))}
    assert found == {
        **{f"train/{CLASSES[i % 2]}/{i:03}.jpg": i % 2 for i in range(6)},
        **{f"{name}/{i:03}.jpg": -1 for i in range(3)},
    }
    assert set(data.notes) == {f"3 images of '{name}' are for training, without labels", "not used: split validation"}


def test_a_class_may_be_called_extra(tmp_path):
    assert opened(write_folder(tmp_path / "films", 6, ("extra", "hero", "train"))).splits["train"].classes[0] == "extra"


def test_only_a_train_folder(tmp_path):
    assert opened(write_folder(tmp_path / "set" / "train").parent).splits["train"].classes == CLASSES


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_strange_names_and_links(tmp_path):
    root = write_folder(tmp_path / "pets", 2)
    (root / "dog" / "loop").symlink_to(root)
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere")
    (root / "cat" / "line\nbreak.JPEG").write_bytes(jpeg(8))
    os.rename(root / "dog" / "001.jpg", os.fsencode(root / "dog") + b"/\xff.jpg")
    (root / "cat" / ".hidden.jpg").write_bytes(b"")
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "folder.jpg").mkdir()
    elsewhere = write_folder(tmp_path / "elsewhere", 1, ())
    (root / "emu").symlink_to(elsewhere)
    data = opened(root)
    train = data.splits["train"]
    assert [train.name_of(i) for i in range(4)] == [
        "cat/000.jpg",
        "cat/line\\nbreak.JPEG",
        "dog/\\udcff.jpg",
        "emu/000.jpg",
    ]
    assert train.classes == ("cat", "dog", "emu")
    assert dict(train.skipped) == {"cat/pipe.jpg": "not a regular file", "dog/gone.jpg": "No such file or directory"}


def test_unreadable_subfolder_is_named(tmp_path, monkeypatch):
    root, scan = write_folder(tmp_path / "pets"), os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert opened(root).splits["train"].skipped == [("dog", "cannot be listed: Permission denied")]
    monkeypatch.setattr(os, "scandir", lambda path: refuse("dog"))
    with pytest.raises(UserError, match="Permission denied"):
        opened(root)


# Parquet


def test_parquet_files_and_splits(tmp_path):
    blobs = [jpeg(i) for i in range(10)]
    write_parquet(tmp_path / "hf" / "train-00000.parquet", blobs[:6], [0, 1, 0, 1, 0, 1])
    write_parquet(tmp_path / "hf" / "train-00001.parquet", blobs[6:], [1, 0, 1, 0], classes=("cat", "dog"))
    write_parquet(tmp_path / "hf" / "validation.parquet", blobs[:2], [0, 1])
    data = opened("hf")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 10, "test": 2}
    assert data.splits["train"].take([5, 6, 9])["label"].tolist() == [1, 1, 0]
    assert data.notes == ["split 'validation' serves as test"]
    alone = opened("hf/validation.parquet")
    assert list(alone.splits) == ["train"] and torch.equal(images(alone.splits["train"]), images(data.splits["test"]))
    assert torch.equal(images(data.splits["train"])[0], torch.from_numpy(decode_reference(blobs[0])))
    pattern = opened("hf/{train-0000?,validation}.parquet")
    assert len(pattern.splits["train"]) == 10


def test_parquet_classes_go_together_by_name(tmp_path):
    write_parquet(tmp_path / "p" / "a.parquet", [jpeg(0), jpeg(1)], [0, 1], ("cat", "dog"))
    write_parquet(tmp_path / "p" / "b.parquet", [jpeg(2), jpeg(3)], [0, 1], ("dog", "emu"))
    train = opened("p").splits["train"]
    assert train.classes == ("cat", "dog", "emu") and train.take(range(4))["label"].tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("labels", "want", "classes"),
    [
        (pa.array(["dog", "cat", None, "dog"]).dictionary_encode(), [1, 0, -1, 1], ("cat", "dog")),
        (pa.array([True, False, None, True]), [1, 0, -1, 1], ("0", "1")),
        (pa.array([2.0, 0.0, None, float("nan")]), [2, 0, -1, -1], ("0", "1", "2")),
        (pa.array([3, 1, None, 3]).dictionary_encode(), [3, 1, -1, 3], ("0", "1", "2", "3")),
        (pa.array([0.5, 1.0, 2.0, None]), None, ()),
    ],
)
def test_parquet_labels_of_every_type(tmp_path, labels, want, classes):
    pq.write_table(pa.table({"image": [jpeg(i) for i in range(4)], "label": labels}), "a.parquet")
    data = opened("a.parquet")
    train = data.splits["train"]
    assert train.classes == classes and train.take(range(4)).get("label", torch.zeros(0)).tolist() == (want or [])
    assert data.notes == ([] if want else ["labels such as 0.5 are no classes: not used"])


@pytest.mark.parametrize("missing", ["text", "image", "label"])
def test_parquet_files_must_have_the_same_columns(tmp_path, missing):
    whole = pa.table({"image": [jpeg(0)], "text": ["a cat"], "label": [1]})
    (tmp_path / "p").mkdir()
    pq.write_table(whole, "p/a.parquet")
    pq.write_table(whole.drop_columns([missing]), "p/b.parquet")
    with pytest.raises(UserError, match=rf"b\.parquet has no column '{missing}', which .*a\.parquet has"):
        opened("p", columns=("image", "text"))


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_stray_picture_does_not_hide_packs(tmp_path, kind):
    blobs = [jpeg(i) for i in range(20)]
    root = write_folder(tmp_path / "repo", 2, ())
    if kind == "tar":
        write_tar(root / "a.tar", {f"{i}.jpg": blob for i, blob in enumerate(blobs)})
    else:
        write_parquet(root / "a.parquet", blobs)
    data = opened("repo")
    assert len(data.splits["train"]) == 20 and data.notes == [f"2 files beside the .{kind} files are not used"]
    (root / "third.jpg").write_bytes(jpeg(0))
    assert len(opened("repo").splits["train"]) == 3, "not ten times as many"
    (root / f"a.{kind}").write_bytes(b"no samples")
    data = opened("repo")
    assert len(data.splits["train"]) == 3 and f".{kind} files are not used: cannot read" in data.notes[0]


def test_parquet_missing_images_and_labels(tmp_path):
    write_parquet(tmp_path / "a.parquet", [jpeg(0), None, b"", jpeg(3), jpeg(4)], [0, 0, 0, -1, None])
    train = opened("a.parquet").splits["train"]
    assert train.take(range(3))["label"].tolist() == [0, -1, -1]
    assert train.skipped == [("a.parquet row 1", "nothing in this row"), ("a.parquet row 2", "empty file")]


def test_parquet_larger_than_memory(tmp_path, monkeypatch):
    from nolabel.data import parquet

    monkeypatch.setattr(parquet, "MEMORY", 20_000)
    write_parquet(tmp_path / "a.parquet", [jpeg(i, 64) for i in range(64)])
    split = opened("a.parquet", cache="never", workers=2).splits["train"]
    store = split.columns["image"].store
    assert split.blocks is not None and split.blocks.of_row.tolist() == [i // 4 for i in range(64)]
    rows = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    got = split.take(rows)["image"]
    assert 0 < len(store._kept) < 16 and store._used <= 20_000
    np.testing.assert_array_equal(got[0].numpy(), decode_reference(jpeg(int(rows[0]), 64)))
    assert len(opened("a.parquet").splits["train"]) == 64 and opened("a.parquet").splits["train"].blocks is None


def test_parquet_without_images(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"no column of .*only text"):
        opened("t.parquet")
    with pytest.raises(UserError, match=r"cannot read half\.parquet as Parquet"):
        opened("half.parquet")


# tar shards


def shard(first, count, label=lambda i: {"label": i % 2, "label_name": CLASSES[i % 2]}):
    members = {}
    for i in range(first, first + count):
        members[f"d/{i:04}.png"] = encode(np.zeros((40, 40), np.uint8), "PNG")
        members[f"d/{i:04}.jpg"] = jpeg(i)
        members[f"d/{i:04}.json"] = json.dumps(label(i)).encode()
    return members


def test_tar_shards(tmp_path, monkeypatch):
    write_tar(tmp_path / "w" / "shard-000.tar", shard(0, 5))
    write_tar(tmp_path / "w" / "shard-001.tar", shard(5, 4))
    data = opened("w/shard-{000..001}.tar")
    train = data.splits["train"]
    assert len(train) == 9 and train.classes == CLASSES and train.take([4, 5])["label"].tolist() == [0, 1]
    np.testing.assert_array_equal(images(train)[6].numpy(), decode_reference(jpeg(6)))
    assert train.name_of(6) == "shard-001.tar:d/0006.jpg"
    monkeypatch.setattr(shards, "_MOST_OPEN", 1)
    again = opened("w", cache="never").splits["train"]
    assert torch.equal(images(again), images(train))
    assert list((tmp_path / "cache").glob("index-*.json"))


def test_tar_labels_of_other_kinds(tmp_path):
    write_tar(
        tmp_path / "a.tar", {"1.jpg": jpeg(1), "1.cls": b"3", "2.jpg": jpeg(2), "2.cls": b"0\n", "3.jpg": jpeg(3)}
    )
    train = opened("a.tar").splits["train"]
    assert train.classes == ("0", "1", "2", "3") and train.take(range(3))["label"].tolist() == [3, 0, -1]
    write_tar(
        tmp_path / "b.tar", {"1.jpg": jpeg(1), "1.cls": b"dog", "2.webp": encode(pixels(2), "WEBP"), "2.cls": b"cat"}
    )
    train = opened("b.tar").splits["train"]
    assert train.classes == ("cat", "dog") and train.take(range(2))["label"].tolist() == [1, 0]


def test_tar_labels_may_be_any_number_or_name(tmp_path):
    members = {f"{i}.jpg": jpeg(i) for i in range(4)}
    notes = [{"label": 10**13, "label_name": "far"}, {"label": 3, "label_name": "near"}, {"label": [1]}]
    write_tar(tmp_path / "a.tar", {**members, **{f"{i}.json": json.dumps(n).encode() for i, n in enumerate(notes)}})
    train = opened("a.tar").splits["train"]
    assert train.classes == ("3", str(10**13)) and train.take(range(4))["label"].tolist() == [1, 0, -1, -1]
    write_tar(tmp_path / "b.tar", {**members, **{f"{i}.cls": t.encode() for i, t in enumerate(("--0", "²", "1"))}})
    train = opened("b.tar").splits["train"]
    assert train.take(range(4))["label"].tolist() == [0, 2, 1, -1] and train.classes == ("--0", "1", "²")


def test_truncated_and_wrong_tars(tmp_path):
    whole = write_tar(tmp_path / "a.tar", shard(0, 5)).read_bytes()
    cut = whole.index(jpeg(4)) + 100
    (tmp_path / "cut.tar").write_bytes(whole[:cut])
    train = opened("cut.tar").splits["train"]
    assert len(train) == 5 and any("shard" in why for _, why in train.skipped), "its last sample has only the mask"
    third = whole.index(b"2.", 1024) // 512 * 512
    (tmp_path / "middle.tar").write_bytes(whole[:third] + bytes(range(256)) * 2 + whole[third + 512 :])
    assert any("damaged at byte" in why for _, why in opened("middle.tar").splits["train"].skipped)
    assert not opened("a.tar").splits["train"].skipped
    (tmp_path / "text.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(UserError, match="as tar"):
        opened("text.tar")
    write_tar(tmp_path / "sound.tar", {"1.wav": b"RIFF"})
    with pytest.raises(UserError, match="no images"):
        opened("sound.tar")
    write_tar(tmp_path / "empty.tar", {})
    with pytest.raises(UserError, match="no images"):
        opened("empty.tar")
    with pytest.raises(UserError, match=r"no file matches 'a-1\.tar'"):
        opened("a-{1..2}.tar")


def test_expand_keeps_zeros_and_order(tmp_path):
    for i in (8, 9, 10):
        (tmp_path / f"s-{i:03}.tar").touch()
    assert [path.name for path in expand("s-{008..010}.tar")] == ["s-008.tar", "s-009.tar", "s-010.tar"]


# arrays


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "float", "uint16"])
def test_npz_layouts(tmp_path, layout):
    array = np.stack([pixels(i) for i in range(6)])
    stored = {
        "NHWC": array,
        "NCHW": array.transpose(0, 3, 1, 2),
        "NHW": array[..., 0],
        "float": array.astype(np.float32) / 255,
        "uint16": array.astype(np.uint16) * 257,
    }[layout]
    np.savez(tmp_path / "a.npz", images=stored, labels=np.arange(6)[:, None] % 2, class_names=np.array(CLASSES))
    train = opened("a.npz").splits["train"]
    want = np.repeat(array[..., :1], 3, 3) if layout == "NHW" else array
    np.testing.assert_array_equal(images(train).numpy(), want)
    assert train.classes == CLASSES and train.take([1])["label"].tolist() == [1]


RAMP = np.linspace(0, 1, 16)


@pytest.mark.parametrize(
    ("stored", "white", "note"),
    [
        ((RAMP * 200).astype("u2"), 255, "uint16 pixels reach 200: 255 counts as white"),
        ((RAMP * 4000).astype("u2"), 4095, "uint16 pixels reach 4000: 4095 counts as white"),
        ((RAMP * 40000).astype("u2"), 65535, None),
        ((RAMP * 255).astype("i8"), 255, None),
        ((RAMP * 900).astype("i4"), 1023, "int32 pixels reach 900: 1023 counts as white"),
        (RAMP.round().astype("i8"), 1, "int64 pixels reach 1: 1 counts as white"),
        (RAMP > 0.5, 1, None),
        (RAMP.astype("f2"), 1, None),
        (RAMP * 255, 255, None),
        (RAMP * 300, 255, "float64 pixels reach 300: 255 counts as white"),
        (RAMP.astype("f4") * 4095, 4095, "float32 pixels reach 4095: 4095 counts as white"),
    ],
)
def test_npz_white(tmp_path, stored, white, note):
    np.savez("a.npz", image=stored.reshape(1, 4, 4))
    data = opened("a.npz")
    want = np.clip(np.rint(stored.astype("f8") * 255 / white), 0, 255)
    assert np.abs(images(data.splits["train"])[0, :, :, 0].numpy().ravel() - want).max() <= (stored.dtype == "f2")
    assert data.notes == ([f"a.npz: {note}"] if note else [])


def test_npz_white_is_that_of_all_splits(tmp_path):
    dark = np.full((2, 4, 4), 819, np.uint16)
    np.savez("a.npz", train_images=dark, test_images=dark * 5)
    data = opened("a.npz")
    assert images(data.splits["train"]).unique().tolist() == [51] and images(data.splits["test"]).unique().tolist() == [
        255
    ]


def test_npz_labels_of_every_type(tmp_path):
    for labels, want, classes in (
        (np.array([1.0, np.nan, 0.0]), [1, -1, 0], ("0", "1")),
        (np.array([b"dog", b"cat", b""]), [1, 0, -1], ("cat", "dog")),
        (np.array([True, False, True]), [1, 0, 1], ("0", "1")),
    ):
        np.savez("a.npz", image=np.zeros((3, 8, 8), np.uint8), label=labels)
        train = opened("a.npz").splits["train"]
        assert train.take(range(3))["label"].tolist() == want and train.classes == classes


def test_npz_splits_and_npy(tmp_path):
    array = np.stack([pixels(i) for i in range(6)])
    np.savez(tmp_path / "k.npz", x_train=array[:4], y_train=[0, 1, 2, 0], x_test=array[4:], y_test=[1, 1])
    data = opened("k.npz")
    assert [len(split) for split in data.splits.values()] == [4, 2]
    assert data.splits["test"].classes == data.splits["train"].classes == ("0", "1", "2")
    np.savez(tmp_path / "m.npz", train_images=array, val_images=array[:2], test_images=array[:3])
    assert [len(split) for split in opened("m.npz").splits.values()] == [6, 3]
    np.save(tmp_path / "a.npy", array)
    train = opened("a.npy").splits["train"]
    np.testing.assert_array_equal(images(train).numpy(), array)
    assert not (tmp_path / "cache").exists() or len(list((tmp_path / "cache").glob("a-npy*"))) == 0
    assert images(opened("a.npy", size=16).splits["train"]).shape == (6, 16, 16, 3)
    assert images(opened("a.npy", channels=1).splits["train"]).shape == (6, 40, 40, 1)


def test_npz_errors(tmp_path):
    np.savez(tmp_path / "o.npz", image=np.array([{"a": 1}], dtype=object))
    what = np.array([{"a": 1}] * 3, dtype=object)
    np.savez(tmp_path / "lo.npz", image=np.zeros((3, 8, 8), np.uint8), label=what)
    np.savez(tmp_path / "n.npz", points=np.zeros((3, 2048)))
    np.savez(tmp_path / "l.npz", image=np.zeros((3, 8, 8), np.uint8), label=[1, 2])
    np.savez(tmp_path / "neg.npz", image=np.full((3, 8, 8), -1.0))
    np.savez(tmp_path / "far.npz", image=np.full((3, 8, 8), 1e30))
    np.savez(tmp_path / "nan.npz", image=np.full((3, 8, 8), np.nan))
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 nothing")
    for name, text in {
        "o": "image holds Python objects",
        "lo": "label holds Python objects",
        "n": "only points",
        "l": "equally many",
        "neg": "normalisation",
        "far": r"go up to 1e\+30, more than 16 bits",
        "nan": "pixels are not finite",
        "bad": "bad",
    }.items():
        with pytest.raises(UserError, match=text):
            opened(f"{name}.npz")


def test_npz_leaves_objects_that_nobody_asked_for(tmp_path):
    notes = np.array([{"a": 1}] * 3, dtype=object)
    np.savez(tmp_path / "a.npz", image=np.zeros((3, 8, 8, 3), np.uint8), notes=notes)
    assert len(opened("a.npz").splits["train"]) == 3


def test_npz_skips_rows_that_are_not_finite(tmp_path):
    array = np.ones((4, 8, 8, 3), np.float32)
    array[1, 0], array[2, 3, 3, 1] = np.nan, np.inf
    np.savez(tmp_path / "a.npz", image=array)
    train = opened("a.npz").splits["train"]
    assert train.skipped == [(f"a.npz row {i}", "pixels are not finite") for i in (1, 2)]
    assert len(train) == 2 and images(train).unique().tolist() == [255]


# by name


def test_torchvision_by_name(tmp_path):
    raw = tmp_path / "cache" / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        head = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + bytes(range(count)) * 784)
        labels = (0x801).to_bytes(4, "big") + count.to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels + bytes(i % 10 for i in range(count)))
    data = opened("mnist")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 20, "test": 10}
    assert data.splits["train"].shapes["image"] == (28, 28, 3) and len(data.info.classes) == 10
    assert data.splits["train"].take([13])["label"].tolist() == [3]
    write_folder(tmp_path / "mnist", 3)
    assert len(opened("mnist").splits["train"]) == 3, "an existing path wins over a name"


def test_torchvision_without_network(monkeypatch):
    from torchvision import datasets

    def refuse(*args, **kwargs):
        raise OSError("<urlopen error no network>")

    monkeypatch.setattr(datasets.CIFAR10, "download", refuse)
    with pytest.raises(UserError, match=r"cannot get cifar10 into .*no network>; or give a folder"):
        opened("cifar10")


def test_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"image": [{"bytes": jpeg(i), "path": None} for i in range(6)], "label": [0, 1, 0, 1, 0, 1]}
    made = datasets.DatasetDict(
        train=datasets.Dataset.from_dict(rows, features=features),
        test=datasets.Dataset.from_dict(rows, features=features),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name: made)
    data = opened("hf:someone/pets")
    assert [len(split) for split in data.splits.values()] == [6, 6] and data.info.classes == CLASSES
    np.testing.assert_array_equal(images(data.splits["train"])[2].numpy(), decode_reference(jpeg(2)))

    def refuse(name):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="cannot get hf:someone/pets: offline"):
        opened("hf:someone/pets")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("cifar01", "did you mean 'cifar10'"),
        ("toywrold", "did you mean 'toyworld'"),
        ("toyworld:brutal", "no 'brutal'.*easy, grey, hard"),
        ("nowhere/at/all", "no such file or folder"),
        ("photos.tar", "no such file or folder"),
        ("zzzzqqq", "give a folder"),
        ("empty", "no images.*holds nothing"),
        ("film", "no images.*holds 1 .mp4"),
        ("notes.txt", r"no images in notes\.txt"),
        ("notes.xyz", "cannot tell the format"),
        ("*.tar", "no file matches"),
    ],
)
def test_what_cannot_be_opened_says_so_in_one_line(tmp_path, spec, text):
    (tmp_path / "empty").mkdir()
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "a.mp4").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "notes.xyz").touch()
    with pytest.raises(UserError, match=text) as error:
        opened(spec)
    assert "\n" not in str(error.value)


def test_options_are_checked(tmp_path):
    write_folder(tmp_path / "pets")
    for options, why in (
        ({"cache": "sometimes"}, "auto, always or never"),
        ({"channels": 2}, "3 for RGB or 1 for grey"),
        ({"words": 1}, "words=1: it must be at least 3"),
        ({"sample_rate": 1}, "sample_rate=1: it must be at least 10"),
        ({"size": -3}, "size=-3: it must be at least 1"),
        ({"size": "big"}, "size='big': it must be a whole number"),
        ({"frames": 2.5}, r"frames=2\.5: it must be a whole number"),
        ({"seconds": float("nan")}, "seconds=nan: it must be a number"),
        ({"side": 10**7}, "larger than 2 GiB"),
        ({"sise": 8}, "no form 'sise'; did you mean 'size'"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
    ):
        with pytest.raises(UserError, match=why):
            opened("pets", **options)


@pytest.mark.parametrize(
    ("labels", "names", "want", "classes"),
    [
        ([0, 2, None, -1], (), [0, 2, -1, -1], ("0", "1", "2")),
        ([0, 2], ("a",), [0, 2], ("a", "1", "2")),
        (["b", "a", None], (), [1, 0, -1], ("a", "b")),
        (["b", "z"], ("b", "a"), [0, -1], ("b", "a")),
        ([10**12, 7, None, -1], (), [1, 0, -1, -1], ("7", "1000000000000")),
        ([None, None], (), [-1, -1], ()),
    ],
)
def test_labels_are_numbered(labels, names, want, classes):
    values, found = number(labels, names)
    assert values.tolist() == want and found == classes and values.dtype == torch.int64


# sizes and splits


@pytest.mark.parametrize(
    ("sides", "wanted", "size"),
    [
        ([32] * 3, None, 32),
        ([96] * 3, None, 96),
        ([128] * 3, None, 64),
        ([30, 50], None, 64),
        ([32] * 3, 224, 32),
        ([256] * 3, 224, 256),
        ([500] * 3, 224, 256),
        ([300, 400], 224, 256),
        ([300, 400], 32, 40),
        ([300, 400], 96, 112),
    ],
)
def test_stored_size(sides, wanted, size):
    assert stored_size(sides, wanted) == size


def test_hold_out(tmp_path):
    write_folder(tmp_path / "pets", 30)
    data = open_data("pets")
    train, test = data.splits["train"], data.splits["test"]
    assert len(train) == 27 and len(test) == 3 and "held out" in data.notes[0]
    names = [split.name_of(i) for split in (train, test) for i in range(len(split))]
    assert len(set(names)) == 30
    (tmp_path / "pets" / "cat" / "000.jpg").write_bytes(b"")
    again = open_data("pets", cache="never")
    assert [again.splits["test"].name_of(i) for i in range(3)] == [test.name_of(i) for i in range(3)]
    assert "test" not in open_data(str(write_folder(tmp_path / "flat", classes=()))).splits
    assert len(open_data(str(write_folder(tmp_path / "two", 2))).splits["test"]) == 1


def test_hold_out_takes_labelled_samples_alone():
    labels = torch.full((1000,), -1)
    labels[:100] = 1
    held = held_out(labels, 0.1)
    assert held.sum() == 10 and not held[100:].any() and torch.equal(held, held_out(labels, 0.1))
    assert held_out(torch.zeros(200_000), 0.1).sum() == 10_000
    assert [int(held_out(torch.tensor(values), 0.1).sum()) for values in ([], [-1], [3], [3, 3])] == [0, 0, 0, 1]
    assert not held_out(labels, 0).any()


def test_toyworld(monkeypatch):
    from nolabel.data import toy

    monkeypatch.setattr(toy, "TRAIN", 40)
    monkeypatch.setattr(toy, "TEST", 10)
    data = open_data("toyworld")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 40, "test": 10}
    assert data.info.shapes == {"image": (32, 32, 3)} and len(data.info.classes) > 1
    assert not torch.equal(images(data.splits["train"])[:10], images(data.splits["test"]))
    streamed = open_data("toyworld:easy", cache="never")
    assert torch.equal(images(streamed.splits["train"]), images(data.splits["train"]))
    assert images(open_data("toyworld:std", size=48, channels=1).splits["train"]).shape == (40, 48, 48, 1)


def test_real_sets(real_data):
    pacs = opened(real_data / "pacs" / "sketch.parquet", size=32)
    assert (
        len(pacs.splits["train"]) == 3929 and pacs.info.shapes["image"] == (40, 40, 3) and len(pacs.info.classes) == 7
    )
    road = opened(real_data / "camvid")
    assert {k: len(v) for k, v in road.splits.items()} == {"train": 367, "test": 233} and not road.info.classes


def test_arrays_of_a_program_become_a_file_that_opens_alike(tmp_path):
    images, labels = np.stack([pixels(i, 8, 8) for i in range(6)]), [0, 1, 2, 0, 1, 2]
    named = {"image": torch.from_numpy(images), "label": labels, "test_image": images[:2], "test_label": labels[:2]}
    path = at_rest(named)
    data = opened(path)
    found = data.splits["train"].take(torch.arange(6))
    assert np.array_equal(found["image"].numpy(), images) and found["label"].tolist() == labels
    assert len(data.splits["test"]) == 2
    written = path.stat().st_mtime_ns
    assert at_rest({**named, "label": np.array(labels)}) == path and path.stat().st_mtime_ns == written
    assert at_rest({**named, "label": labels[::-1]}) != path, "other labels are other data"
    assert np.array_equal(opened(at_rest(images)).splits["train"].take(torch.arange(6))["image"].numpy(), images)
    words = opened(at_rest({"text": ["one two", "three"]}), columns=("text",)).splits["train"]
    assert len(words) == 2
    grown = torch.from_numpy(images).float().requires_grad_()
    assert at_rest(grown) == at_rest(images.astype("f4"))
    with pytest.raises(UserError, match="the data are no array"):
        at_rest([[1], [1, 2]])
    texts = np.array(list("abcabc"), object)  # as pandas has them
    assert opened(at_rest({"image": images, "label": texts})).splits["train"].classes == ("a", "b", "c")
    for wrong in ([{}], [], {"image": [None]}):
        with pytest.raises(UserError, match="no array of numbers or texts"):
            at_rest(wrong)


def test_a_run_on_arrays_is_gone_on_with(tmp_path):
    import nolabel as nl

    images = np.stack([pixels(i, 16, 16) for i in range(24)])
    settings = {"batch": 8, "report": False, "evaluate": (), "processes": 1, "quiet": True, "precision": "fp32"}
    run = nl.train("simclr", images, steps=3, dir="a", **settings)
    again = nl.resume(run.folder, quiet=True)
    assert run.embed(images).shape == again.embed().shape == (24, run.encoder.dim)
    few = {"image": images, "label": np.arange(24) % 2}
    assert nl.train("supervised", few, labels=4, steps=1, dir="few", **settings).plan.labels == "4"
    with pytest.raises(nl.UserError, match="no array"):
        nl.train("simclr", [None])
