"""A thousand malformed files: each is read, or left out and named; nothing crashes, hangs, or gets out of its folder."""

import io
import json
import os
import random
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nolabel.core import UserError
from nolabel.data import open_data
from tests.processes import answer
from tests.unit.data_files import encode, jpeg, pixels, write_folder, write_parquet, write_tar

KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


@pytest.fixture(autouse=True)
def cache_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def damaged(blob: bytes, rng: random.Random) -> bytes:
    """One of the ways in which files go wrong: cut, bits flipped, a stretch lost, doubled or overwritten, a lying header."""
    data = bytearray(blob)
    at = rng.randrange(len(data))
    length = rng.randrange(1, 1 + min(64, len(data) - at))
    match rng.randrange(8):
        case 0:
            del data[at:]
        case 1:
            for _ in range(rng.choice((1, 4, 32))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 50))
        case 4:
            data[at : at + length] = bytes(length)
        case 5:
            data[at : at + length] = rng.randbytes(length)
        case 6:  # sizes and offsets mostly stand near the front
            at = rng.randrange(min(64, len(data)))
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        case 7:
            at = max(0, len(data) - rng.randrange(1, 64))
            data[at:] = rng.randbytes(len(data) - at)
    return bytes(data)


def bomb(side: int, whole: bool) -> bytes:
    """A PNG of side x side pixels in a few kilobytes; `whole` really holds them, else only its header says so."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(1 + side)) for _ in range(side if whole else 1)) + squeeze.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def summary(spec, **options):
    """Rows and names of what was skipped, of every split; or the one line that refuses all of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = open_data(str(spec), test_fraction=0, workers=1, **options)
            for split in data.splits.values():
                split.take(torch.arange(min(4, len(split))))
    except UserError as error:
        return str(error)
    train = data.splits["train"]
    return len(train), dict(train.skipped)


def summaries(files, **options):
    """`summary` of each."""
    return [summary(file, **options) for file in files]


def test_a_folder_of_damaged_images(tmp_path):
    """600 damaged images, links that loop, bombs and odd names; all that is left out is on record under its name."""
    rng = random.Random(0)
    root = write_folder(tmp_path / "photos", 10, ())
    written = {path.name for path in root.iterdir()}
    for i in range(600):
        kind = ("jpg", "png", "webp")[i % 3]
        name = f"bad-{i:04}.{kind}"
        (root / name).write_bytes(damaged(encode(pixels(i % 7, 24), KINDS[kind]), rng))
        written.add(name)
    for name, blob in {
        "empty.jpg": b"", "text.png": b"hello", "bomb.png": bomb(30_000, False), "real-bomb.png": bomb(15_000, True),
    }.items():  # fmt: skip
        (root / name).write_bytes(blob)
        written.add(name)
    (root / "loop").symlink_to(root)
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    written |= {"self.jpg", "gone.jpg"}
    if sys.platform == "linux":
        (root / "two\nlines.jpg").write_bytes(b"bad")
        Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.jpg")).write_bytes(b"bad")
        written |= {"two\\nlines.jpg", "\\udcff\\udcfe.jpg"}
    good, skipped = answer(120, summary, root, size=24)
    assert good + len(skipped) == len(written) and set(skipped) <= written
    must = {"empty.jpg", "text.png", "bomb.png", "real-bomb.png", "self.jpg", "gone.jpg", "two\\nlines.jpg"}
    assert must <= set(skipped) and 100 < len(skipped) < 600
    assert all(why and "\n" not in why for why in skipped.values())


def containers(kind: str, folder: Path) -> bytes:
    """A small whole data set of one kind."""
    if kind == "tar":
        members = {}
        for i in range(6):
            members |= {f"{i}.jpg": jpeg(i, 24), f"{i}.json": json.dumps({"label": i % 2}).encode()}
        return write_tar(folder / "whole.tar", members).read_bytes()
    if kind == "parquet":
        return write_parquet(folder / "whole.parquet", [jpeg(i, 24) for i in range(6)], [0, 1] * 3).read_bytes()
    file = io.BytesIO()
    save = np.savez if kind == "npz" else np.savez_compressed
    save(file, image=np.stack([pixels(i, 24) for i in range(6)]), label=np.arange(6) % 2)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["tar", "parquet", "npz", "compressed"])
def test_damaged_containers(kind, tmp_path):
    """100 of each kind: read as far as they go, or refused in one line with the name of the file."""
    rng = random.Random(1)
    whole = containers(kind, tmp_path)
    suffix = "npz" if kind == "compressed" else kind
    files = [tmp_path / f"{kind}-{i:03}.{suffix}" for i in range(100)]
    for file in files:
        file.write_bytes(damaged(whole, rng))
    outcomes = answer(120, summaries, files, size=24)
    refused = [(f, o) for f, o in zip(files, outcomes) if isinstance(o, str)]
    assert all(file.name in line and "\n" not in line for file, line in refused)
    assert 5 < len(refused) < 100, "damage that matters, and damage that does not"
    for outcome in outcomes:
        if not isinstance(outcome, str):
            rows, skipped = outcome
            assert 0 < rows <= 6 and all(skipped.values())


def test_arrays_that_claim_to_be_huge(tmp_path):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 64, 64, 3), }"
    head = head.ljust(118) + b"\n"
    blob = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(100)
    (tmp_path / "a.npy").write_bytes(blob)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", blob)
    bytes_of_zeros = io.BytesIO()
    np.save(bytes_of_zeros, np.zeros((1, 2), object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("image.npy", bytes_of_zeros.getvalue())
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", bytes(1000))
    blob = (tmp_path / "c.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(blob.replace(struct.pack("<I", 1000), struct.pack("<I", 2**32 - 2)))
    for name in ("a.npy", "a.npz", "b.npz", "c.npz"):
        line = answer(60, summary, tmp_path / name)
        assert isinstance(line, str) and name in line


def test_a_hostile_tar_writes_nothing_and_reads_nothing_else(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(9))
    place = tmp_path / "in" / "x.tar"
    place.parent.mkdir()
    with tarfile.open(place, "w") as tar:
        for name in ("../../up.jpg", "/etc/abs.jpg", f"{tmp_path}/abs.jpg", "good.jpg", "a\nb.jpg", "\udcff.jpg"):
            member = tarfile.TarInfo(name)
            blob = jpeg(1, 24)
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
        for name, kind, target in (
            ("link.jpg", tarfile.SYMTYPE, str(secret)), ("hard.jpg", tarfile.LNKTYPE, str(secret)),
            ("dev.jpg", tarfile.CHRTYPE, ""), ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    data = open_data(str(place), test_fraction=0, size=24)
    train = data.splits["train"]
    assert len(train) == 6, "links, devices and pipes are no samples"
    assert all(name.isprintable() for name in (train.name_of(i) for i in range(6)))
    assert (train.take(range(6))["image"] == train.take([3])["image"]).all()
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before
    assert not Path("/etc/abs.jpg").exists() and not (tmp_path.parent / "up.jpg").exists()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member that claims `size` bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def test_tars_that_would_not_end_or_fit(tmp_path):
    """Headers that nest, that lead back, and notes of 40 GiB or of a hundred thousand brackets."""
    blob = jpeg(1, 24)
    good = header("0.jpg", len(blob)) + blob.ljust(-(-len(blob) // 512) * 512, b"\0")
    nested = (header("././@LongLink", 6, tarfile.GNUTYPE_LONGNAME) + b"a.jpg".ljust(512, b"\0")) * 3000
    back = header("1.jpg", -len(good) - 512)
    deep = b"[" * 100_000
    for name, data, why in (
        ("nested", nested, ""),
        ("back", back, "bytes"),
        ("deep", header("0.json", len(deep)) + deep.ljust(-(-len(deep) // 512) * 512, b"\0"), None),
    ):
        (tmp_path / f"{name}.tar").write_bytes(good + data + bytes(1024))
        rows, skipped = answer(60, summary, tmp_path / f"{name}.tar", size=24)
        assert rows == 1 and len(skipped) == (why is not None) and (why or "") in "".join(skipped.values())
    (tmp_path / "nested.tar").write_bytes(nested + bytes(1024))
    assert "nested.tar as tar" in answer(60, summary, tmp_path / "nested.tar")
    with open(tmp_path / "sparse.tar", "wb") as file:
        file.write(good + header("0.json", 40 * 2**30))
        file.seek(40 * 2**30, os.SEEK_CUR)
        file.write(bytes(1024))
    assert answer(60, summary, tmp_path / "sparse.tar", size=24) == (1, {})


def test_tables_that_are_no_tables(tmp_path):
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "cell.csv").write_text("text,label\na cat," + "x" * 200_000)
    for name, why in (("deep.jsonl", "is no JSON"), ("cell.csv", "field larger")):
        line = answer(60, summary, tmp_path / name, columns=("text",))
        assert name in line and why in line and "\n" not in line


def test_parquet_rows_are_as_safe_as_files(tmp_path):
    rng = random.Random(2)
    blobs = [damaged(encode(pixels(i % 7, 24), KINDS[("jpg", "png", "webp")[i % 3]]), rng) for i in range(150)]
    write_parquet(tmp_path / "p.parquet", [jpeg(0, 24), *blobs, bomb(30_000, False), None])
    good, skipped = answer(60, summary, tmp_path / "p.parquet", size=24)
    assert good + len(skipped) == 153 and {"p.parquet row 151", "p.parquet row 152"} <= set(skipped)
    pq.write_table(pa.table({"image": [b"x"], "label": [2**62]}), tmp_path / "q.parquet")
    assert "q.parquet" in answer(60, summary, tmp_path / "q.parquet")


def test_links_in_circles_end(tmp_path):
    root = write_folder(tmp_path / "a", 2, ())
    for i in range(30):
        folder = root / f"f{i}"
        folder.mkdir()
        (folder / "up").symlink_to(root)
        (folder / "next").symlink_to(root / f"f{(i + 1) % 30}")
    assert answer(30, summary, root, size=24) == (2, {})
