import errno
import os
import shutil
import sys
import time

import numpy as np
import pytest
import torch

from nolabel.core import UserError
from nolabel.data import ArrayColumn, Source, Split, cache, open_data
from nolabel.data.columns import EncodedColumn
from nolabel.data.files import FileStore
from tests.processes import CLEAN, process
from tests.unit.data_files import CLASSES, encode, jpeg, pixels, write_folder, write_tar


@pytest.fixture(autouse=True)
def cache_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))


BROKEN = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"dear diary", "not an image of a known format"),
    "cut.jpg": (jpeg(1, 80)[:-300], "truncated"),
    "cut.png": (encode(pixels(1), "PNG")[:60], ""),
    "noise.webp": (b"RIFF\x10\0\0\0WEBPVP8 nonsense", ""),
}


def write_broken(root):
    write_folder(root, 8)
    for name, (blob, _) in BROKEN.items():
        (root / "cat" / name).write_bytes(blob)
    return root


def test_broken_files_are_left_out_counted_and_named(tmp_path):
    data = open_data(write_broken(tmp_path / "pets"), test_fraction=0)
    train = data.splits["train"]
    assert len(train) == 8 and train.take(range(8))["label"].tolist() == [0] * 4 + [1] * 4
    found = dict(train.skipped)
    assert sorted(found) == sorted(f"cat/{name}" for name in BROKEN)
    for name, (_, why) in BROKEN.items():
        assert why in found[f"cat/{name}"] and found[f"cat/{name}"]
    again = open_data(tmp_path / "pets", test_fraction=0).splits["train"]
    assert again.skipped == train.skipped and again.name_of(4) == "dog/001.jpg"


def test_streams_replace_broken_files_and_say_so_once(tmp_path):
    train = open_data(write_broken(tmp_path / "pets"), cache="never", test_fraction=0, workers=2).splits["train"]
    assert len(train) == 13
    names = [train.name_of(row) for row in range(13)]
    cut, good = names.index("cat/cut.jpg"), names.index("dog/003.jpg")
    with pytest.warns(UserWarning, match=r"cut\.jpg cannot be decoded") as record:
        batch, _ = train.take([cut, good, 0, cut]), train.take([0, cut])
    assert len(record) == 1
    assert batch["index"].tolist() == [good, good, 0, good] and batch["label"].tolist() == [1, 1, 0, 1]
    assert torch.equal(batch["image"][0], batch["image"][1]) and torch.equal(batch["image"][3], batch["image"][1])
    assert len(train.skipped) == 1
    assert train.take([cut, good], ["label", "image"])["label"].tolist() == [1, 1]
    with pytest.raises(UserError, match="none of 2 samples"):
        train.take([cut, cut])


def test_streams_tell_at_the_end_of_an_epoch_all_that_is_broken(tmp_path):
    data = open_data(write_broken(tmp_path / "pets"), cache="never")
    source = Source(data.splits["train"], 6)
    with pytest.warns(UserWarning, match="cannot be decoded"):
        _ = [source.at(0, step) for step in range(2 * source.epoch_steps)]
    test = data.splits["test"]
    held = {test.name_of(row) for row in range(len(test))}
    assert (
        len(data.splits["train"]) == 12
        and {name for name, _ in data.splits["train"].skipped} == {f"cat/{name}" for name in BROKEN} - held
    )


def test_nothing_decodable(tmp_path):
    (tmp_path / "bad").mkdir()
    for i in range(3):
        (tmp_path / "bad" / f"{i}.jpg").write_bytes(b"text")
    with pytest.raises(UserError, match="none of 3 files"):
        open_data(tmp_path / "bad")


def test_cache_is_used_again_and_notices_changes(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "pets")
    first = open_data(root).splits["train"].take([0])["image"]
    with monkeypatch.context() as patch:
        patch.setattr(EncodedColumn, "take", None)
        seen = []
        assert torch.equal(
            open_data(root, progress=lambda what, share: seen.append(share)).splits["train"].take([0])["image"], first
        )
        assert not seen
        monkeypatch.chdir(tmp_path)
        assert len(open_data("pets").splits["train"]) == 7, "the same folder under another path"
    time.sleep(0.01)
    (root / "cat" / "000.jpg").write_bytes(jpeg(99))
    data = open_data(root, progress=lambda what, share: seen.append(share))
    assert not torch.equal(data.splits["train"].take([0])["image"], first) and seen[-1] == 1
    assert len(list((tmp_path / "cache").glob("*[!k]"))) == 2
    assert open_data(root, size=16).info.shapes["image"] == (16, 16, 3)
    assert not list((tmp_path / "cache").glob("*.tmp-*"))


def test_a_damaged_entry_is_built_again(tmp_path):
    root = write_folder(tmp_path / "pets", classes=())
    want = open_data(root).splits["train"].take(range(8))["image"]
    entry = next(path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    for damage in (
        lambda: (entry / "meta.json").unlink(),
        lambda: (entry / "image.uint8").write_bytes(b"short"),
        lambda: (entry / "meta.json").write_text("{"),
    ):
        damage()
        assert torch.equal(open_data(root).splits["train"].take(range(8))["image"], want)


def test_full_disk_is_a_user_error_and_leaves_nothing(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "pets")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; free space"):
        open_data(root)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_too_many_open_files_is_no_broken_image(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "pets")
    data = open_data(root, cache="never", test_fraction=0)

    def refuse(self, row):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(FileStore, "read", refuse)
    with pytest.raises(OSError, match="Too many"):
        data.splits["train"].take([0, 1])


def test_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="cannot write the cache"):
        open_data(write_folder(tmp_path / "pets"))


def test_auto_streams_what_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 1000)
    train = open_data(write_folder(tmp_path / "pets"), test_fraction=0).splits["train"]
    assert isinstance(train.columns["image"], EncodedColumn) and not (tmp_path / "cache").exists()
    always = open_data(tmp_path / "pets", test_fraction=0, cache="always").splits["train"]
    assert isinstance(always.columns["image"], ArrayColumn)
    assert torch.equal(always.take(range(8))["image"], train.take(range(8))["image"])


class Slow:
    """A column that reports every chunk it is asked for, and then takes its time."""

    shape = (8, 8, 3)

    def __init__(self, report, seconds):
        self.report, self.seconds = report, seconds

    def __len__(self):
        return 4096

    def take(self, rows):
        self.report.put(("chunk", os.getpid()))
        time.sleep(self.seconds)
        return rows[:, None, None, None].expand(-1, 8, 8, 3).to(torch.uint8)


def build(report, seconds):
    made = cache.cached("slow", "same", {"image": Slow(report, seconds)}, lambda what, share: None)
    report.put(("sum", int(made.columns["image"].take(torch.arange(4096)).sum())))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and locks")
def test_a_killed_builder_leaves_no_half_entry_and_two_builders_agree(tmp_path):
    def start(report, seconds):
        child = process(build, report, seconds)
        child.start()
        return child

    report = CLEAN.Queue()
    victim = start(report, 60)
    assert report.get(timeout=30)[0] == "chunk"
    victim.kill()
    victim.join()
    left = list((tmp_path / "cache").glob("slow-*.tmp-*"))
    assert left and not any((path / "meta.json").exists() for path in (tmp_path / "cache").glob("slow-*"))
    report = CLEAN.Queue()
    both = [start(report, 0.02) for _ in range(2)]
    said = [report.get(timeout=30) for _ in range(6)]
    for child in both:
        child.join()
    assert [value for what, value in said if what == "sum"] == [int(np.arange(4096, dtype=np.uint8).sum() * 192)] * 2
    assert len({value for what, value in said if what == "chunk"}) == 1, "the second waits for the first"
    assert not list((tmp_path / "cache").glob("slow-*.tmp-*"))


def test_first_of_two_unlocked_builders_wins(tmp_path, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def unlocked(entry):
        yield False

    monkeypatch.setattr(cache, "_alone", unlocked)
    column = ArrayColumn(torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).contiguous())
    inner = []

    def other_first(what, share):
        if not inner:
            inner.append(1)
            cache.cached("set", "id", {"image": column}, lambda what, share: None)

    made = cache.cached("set", "id", {"image": column}, other_first)
    assert torch.equal(made.columns["image"].take(torch.arange(8)), column.array)
    assert not list((tmp_path / "cache").glob("*.tmp-*"))


def test_tar_index_follows_the_file(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.jpg": jpeg(1)})
    assert len(open_data(path).splits["train"]) == 1
    time.sleep(0.01)
    write_tar(path, {"1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    assert len(open_data(path).splits["train"]) == 2
    shutil.rmtree(tmp_path / "cache")
    assert len(open_data(path).splits["train"]) == 2


def test_split_says_which_columns_it_lacks():
    split = Split("train", {"image": ArrayColumn(torch.zeros(4, 2, 2, 3))}, CLASSES)
    with pytest.raises(UserError, match=r"no 'label'.*only image"):
        split.take([0], ["label"])
