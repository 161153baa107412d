"""Video, sound, clouds, text and pairs: what is stored is what the files hold, whatever their form."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nolabel.core import UserError
from nolabel.core.types import END, PAD, START, UNKNOWN
from nolabel.data import EncodedColumn, as_stored, give, given, open_data, text
from nolabel.data.form import Form
from nolabel.data.holdout import held_out
from nolabel.data.pieces import starts
from nolabel.data.points import Cloud, on_surface, read
from tests.unit.data_files import jpeg, write_folder, write_tar


@pytest.fixture(autouse=True)
def cache_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def film(path, frames=90, rate=30, size=(48, 32), sound=None, level=lambda i: 20 + 2 * i, codec="mpeg4"):
    """A video whose frames have the brightness `level(i)`; `sound` (S,) at 8,000 a second goes with it."""
    av = pytest.importorskip("av", reason="PyAV is an extra")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 2
        voice = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound is not None else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level(i), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            samples.sample_rate = 8000
            container.mux(voice.encode(samples))
            container.mux(voice.encode())
    return path


def wave(path, seconds=1.0, rate=8000, tone=440.0, channels=1, **options):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is an extra")
    t = np.arange(round(seconds * rate)) / rate
    x = 0.5 * np.sin(2 * np.pi * tone * t)
    soundfile.write(path, np.stack([x] * channels, 1), rate, **options)
    return x


def levels(video):
    """Mean brightness of each frame (..., T)."""
    return video.float().mean((-3, -2, -1))


# video


def test_a_video_becomes_pieces_of_the_frames_shown(tmp_path):
    (tmp_path / "clips").mkdir()
    film(tmp_path / "clips" / "a.mp4", 90)
    film(tmp_path / "clips" / "b.mkv", 12)
    data = open_data("clips", ("video",), frames=8, fps=10, size=32)
    train = data.splits["train"]
    # 3 s in pieces of 0.8 s are three, and one more for the last 0.6 s; 0.4 s are one
    assert [train.name_of(i) for i in range(len(train))] == [
        "a.mp4", "a.mp4 at 0.8 s", "a.mp4 at 1.6 s", "a.mp4 at 2.4 s", "b.mkv",
    ]  # fmt: skip
    assert data.info.shapes == {"video": (8, 32, 32, 3)} and data.info.rates == {"video": 10.0}
    found = levels(train.take(range(5))["video"])
    want = torch.tensor([[20 + 2 * min(24 * k + 3 * t, 89) for t in range(8)] for k in range(4)])
    assert (found[:4] - want).abs().max() < 4
    assert (found[4] - torch.tensor([20.0, 26, 32, 38, 42, 42, 42, 42])).abs().max() < 4, "the last frame stays"


def test_any_order_of_reading_gives_the_same_frames(tmp_path):
    film(tmp_path / "a.mp4", 400, 25, level=lambda i: i % 200)
    stream = open_data("a.mp4", ("video",), frames=5, fps=5, size=16, cache="never", workers=1).splits["train"]
    forward = torch.cat([stream.take([i])["video"] for i in range(16)])
    assert (levels(forward)[3] - torch.tensor([75.0, 80, 85, 90, 95])).abs().max() < 4
    order = [11, 2, 15, 0, 7, 3, 14]
    for i in order:
        assert torch.equal(stream.take([i])["video"][0], forward[i])


def test_frames_are_upright_squares(tmp_path):
    av = pytest.importorskip("av")
    with av.open("a.mkv", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, 16:32] = 200  # the left half of the centred square
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    train = open_data("a.mkv", ("video",), frames=2, fps=10, size=16, channels=1).splits["train"]
    frame = train.take([0])["video"][0, 0, :, :, 0].float()
    assert frame.shape == (32, 32) and frame[:, :14].mean() > 180 and frame[:, 18:].mean() < 20


def test_video_with_its_sound_is_in_step(tmp_path):
    sound = np.zeros(16000, np.int16)
    sound[10000:10200] = 20000  # at 1.25 s
    film(tmp_path / "a.mkv", 50, 25, sound=sound, level=lambda i: 220 if i == 31 else 20)  # 31 / 25 s
    data = open_data("a.mkv", ("video", "audio"), frames=25, fps=25, size=16, sample_rate=8000)
    train = data.splits["train"]
    assert data.info.shapes["audio"] == (8000,) and data.info.rates == {"video": 25.0, "audio": 8000.0}
    batch = train.take(range(2))
    assert levels(batch["video"])[1].argmax() == 31 - 25 and levels(batch["video"])[0].max() < 40
    loud = (batch["audio"][1] > 10000).nonzero()[:, 0]
    assert abs(int(loud[0]) - 2000) < 40 and batch["audio"][0].abs().max() < 100
    alone = open_data("a.mkv", ("audio",), seconds=2, sample_rate=8000).splits["train"].take([0])["audio"][0]
    assert abs(int((alone > 10000).nonzero()[0]) - 10000) < 40


def test_broken_and_silent_videos_are_named(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    film(folder / "good.mkv", 20, 10, sound=np.zeros(16000, np.int16))
    film(folder / "silent.mkv", 20, 10)
    (folder / "text.mp4").write_bytes(b"dear diary" * 30)
    (folder / "empty.avi").touch()
    whole = film(tmp_path / "whole.mkv", 20, 10).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[:300])
    train = open_data("clips", ("video", "audio"), frames=20, fps=10, size=16).splits["train"]
    assert len(train) == 1 and train.name_of(0) == "good.mkv"
    assert {name for name, _ in train.skipped} == {"cut.mkv", "empty.avi", "silent.mkv", "text.mp4"}
    assert dict(train.skipped)["silent.mkv"] == "no sound in this file"
    assert len(open_data("clips", ("video",), frames=20, fps=10, size=16).splits["train"]) == 2


def test_clips_in_shards_and_folders_have_labels(tmp_path):
    blobs = [film(tmp_path / f"{i}.mp4", 10, 10, level=lambda k, i=i: 60 * i).read_bytes() for i in range(3)]
    members = {}
    for i, blob in enumerate(blobs):
        members |= {f"{i}.mp4": blob, f"{i}.json": json.dumps({"label": i % 2, "label_name": "ab"[i % 2]}).encode()}
    write_tar(tmp_path / "w.tar", members)
    train = open_data("w.tar", ("video",), frames=4, fps=4, size=16, test_fraction=0).splits["train"]
    assert train.classes == ("a", "b") and train.take(range(3))["label"].tolist() == [0, 1, 0]
    assert train.name_of(2) == "w.tar:2.mp4"
    for i, blob in enumerate(blobs):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "ab"[i % 2] / f"{i}.mp4").write_bytes(blob)
    train = open_data("set", ("video",), frames=4, fps=4, size=16, test_fraction=0).splits["train"]
    assert train.take(range(3))["label"].tolist() == [0, 0, 1] and train.classes == ("a", "b")


@pytest.mark.parametrize(
    ("length", "piece", "want"),
    [(3.0, 0.8, 4), (2.002, 2.0, 1), (1.99, 2.0, 1), (0.1, 2.0, 1), (5.9, 2.0, 3), (4.9, 2.0, 2), (6.0, 2.0, 3)],
)
def test_pieces(length, piece, want):
    found = starts(length, piece)
    assert len(found) == want and found == pytest.approx([i * piece for i in range(want)])


def test_a_test_split_takes_whole_recordings():
    groups = torch.arange(40) // 4
    held = held_out(torch.zeros(40), 0.2, groups)
    assert held.sum() == 8 and len(groups[held].unique()) == 2
    assert torch.equal(held, held_out(torch.zeros(40), 0.2, groups))
    assert held_out(torch.zeros(4), 0.5, torch.zeros(4)).sum() == 0, "one recording alone is for training"


# sound


def test_sound_is_resampled_mixed_and_cut(tmp_path):
    (tmp_path / "s").mkdir()
    x = wave(tmp_path / "s" / "a.wav", 2.5, 8000)
    wave(tmp_path / "s" / "b.flac", 0.5, 16000, channels=2)
    data = open_data("s", ("audio",), sample_rate=8000, seconds=1)
    train = data.splits["train"]
    assert [train.name_of(i) for i in range(len(train))] == ["a.wav", "a.wav at 1 s", "a.wav at 2 s", "b.flac"]
    audio = train.take(range(4))["audio"].numpy() / 32767
    assert audio.shape == (4, 8000)
    np.testing.assert_allclose(audio[:2].reshape(-1), x[:16000], atol=1e-4)
    np.testing.assert_allclose(audio[2, :4000], x[16000:], atol=1e-4)
    assert not audio[2, 4000:].any() and not audio[3, 4010:].any(), "silence at the end"
    np.testing.assert_allclose(audio[3, 100:3900], x[100:3900], atol=2e-2)


def test_length_and_rate_of_sound_follow_the_files(tmp_path):
    (tmp_path / "s").mkdir()
    for i in range(10):
        wave(tmp_path / "s" / f"{i}.ogg", 0.32 if i else 3.0, 8000)
    data = open_data("s", ("audio",))
    assert data.info.shapes == {"audio": (3200,)} and data.info.rates == {"audio": 8000.0}, "nine of ten are whole"
    assert data.form.seconds == 0.4 and data.form.sample_rate == 8000
    wave(tmp_path / "long.wav", 7, 44100)
    assert open_data("long.wav", ("audio",)).info.shapes == {"audio": (80000,)}


def test_broken_sound_is_named(tmp_path):
    (tmp_path / "s").mkdir()
    wave(tmp_path / "s" / "good.wav")
    (tmp_path / "s" / "bad.wav").write_bytes(b"RIFF0000WAVEjunk")
    (tmp_path / "s" / "text.flac").write_bytes(b"dear diary")
    train = open_data("s", ("audio",)).splits["train"]
    assert len(train) == 1 and {name for name, _ in train.skipped} == {"bad.wav", "text.flac"}


def test_samples_of_every_type_become_int16():
    from nolabel.data.audio import to_int16

    assert to_int16(np.array([0.0, 0.5, -1.0, 1.5])).tolist() == [0, 16384, -32767, 32767]
    assert to_int16(np.array([2**30, -(2**31)], np.int32)).tolist() == [2**14, -(2**15)]
    assert to_int16(np.array([0, 128, 255], np.uint8)).tolist() == [-(2**15), 0, 127 * 256]
    with pytest.raises(ValueError, match="finite"):
        to_int16(np.array([np.nan]))


def test_shards_say_split_and_recording(tmp_path):
    wave(tmp_path / "x.flac", 0.2)
    blob = (tmp_path / "x.flac").read_bytes()
    members = {}
    for i in range(12):
        meta = {"label": i % 2, "split": "test" if i < 2 else "train", "source": f"tape {i // 4}"}
        members |= {f"{i:02}.flac": blob, f"{i:02}.json": json.dumps(meta).encode()}
    data = open_data(write_tar(tmp_path / "s.tar", members), ("audio",))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 10, "test": 2}
    plain = {k: v for k, v in members.items() if k.endswith("flac")}
    plain |= {f"{i:02}.json": json.dumps({"label": i % 2, "source": f"tape {i // 4}"}).encode() for i in range(12)}
    data = open_data(write_tar(tmp_path / "t.tar", plain), ("audio",), test_fraction=0.3)
    tapes = [{int(s.name_of(i)[6:8]) // 4 for i in range(len(s))} for s in data.splits.values()]
    assert not tapes[0] & tapes[1] and tapes[0] | tapes[1] == {0, 1, 2}


# clouds

CUBE = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 2)])
FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def write_off(path, head="OFF\n"):
    lines = [f"{len(CUBE)} {len(FACES)} 0", *(" ".join(map(str, v)) for v in CUBE)]
    lines += [f"4 {' '.join(map(str, f))}" for f in FACES]
    path.write_text(head + "# a box\n" + "\n".join(lines) + "\n")
    return path


def write_ply(path, kind):
    head = (
        f"ply\nformat {kind} 1.0\ncomment x\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    )
    head += "property uchar red\nelement face 6\nproperty list uchar int vertex_indices\nend_header\n"
    if kind == "ascii":
        rows = [" ".join(map(str, (*v, 7))) for v in CUBE] + [f"4 {' '.join(map(str, f))}" for f in FACES]
        path.write_bytes(head.encode() + "\n".join(rows).encode())
        return path
    order = "<" if "little" in kind else ">"
    vertex = np.dtype([("x", f"{order}f4"), ("y", f"{order}f4"), ("z", f"{order}f4"), ("red", "u1")])
    body = np.array([(*v, 7) for v in CUBE], vertex).tobytes()
    body += b"".join(b"\x04" + np.array(f, f"{order}i4").tobytes() for f in FACES)
    path.write_bytes(head.encode() + body)
    return path


def test_every_file_of_a_box_is_the_same_box(tmp_path):
    folder = tmp_path / "boxes"
    folder.mkdir()
    write_off(folder / "a.off")
    write_off(folder / "b.off", "OFF ")
    for i, kind in enumerate(("ascii", "binary_little_endian", "binary_big_endian")):
        write_ply(folder / f"c{i}.ply", kind)
    (folder / "bad.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 8\nend_header\n1 2 3")
    (folder / "none.off").write_text("OFF\n0 0 0\n")
    train = open_data("boxes", ("points",), points=256).splits["train"]
    assert len(train) == 5 and {name for name, _ in train.skipped} == {"bad.ply", "none.off"}
    clouds = train.take(range(5))["points"]
    assert clouds.dtype == torch.float32 and clouds.shape == (5, 256, 3)
    assert torch.equal(clouds[0], clouds[1]) and torch.allclose(clouds[0], clouds[2])
    assert torch.equal(clouds[2], clouds[3]) and torch.equal(clouds[3], clouds[4])
    torch.testing.assert_close(clouds.mean(1), torch.zeros(5, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(clouds.norm(dim=2).amax(1), torch.ones(5))
    low, high = clouds[0].amin(0), clouds[0].amax(0)
    assert torch.allclose((high - low) / (high - low)[0], torch.tensor([1.0, 1.0, 2.0]), atol=0.1)
    inside = ((clouds[0] - low > 0.02) & (high - clouds[0] > 0.02)).all(1)
    assert inside.float().mean() < 0.05, "points lie on the surface"


def test_points_are_drawn_by_area():
    corners = np.array([[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]])
    points = on_surface(corners, np.array([[0, 1, 2], [3, 4, 5]]), 8000, np.random.default_rng(0))
    assert abs((points[:, 2] == 0).mean() - 0.75) < 0.02
    first = points[points[:, 2] == 0]
    np.testing.assert_allclose(first.mean(0), corners[:3].mean(0), atol=0.03)
    assert (first[:, 0] / 3 + first[:, 1] <= 1 + 1e-9).all()


def test_clouds_get_one_number_of_points():
    rng = np.random.default_rng(0)
    many, few = rng.normal(size=(500, 4)), rng.normal(size=(20, 3))
    out = np.empty((64, 3), np.float32)
    again = np.empty((64, 3), np.float32)
    for cloud in (many, few):
        Cloud(64)(cloud, out)
        Cloud(64)(cloud, again)
        assert np.array_equal(out, again)
    assert len(np.unique(out, axis=0)) == 20
    with pytest.raises(ValueError, match="finite"):
        Cloud(64)(np.full((5, 3), np.nan), out)
    with pytest.raises(ValueError, match="known format"):
        read(b"dear diary")


def test_arrays_of_clouds_and_their_words(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        np.savez(
            tmp_path / f"{split}.npz", points=rng.normal(size=(count, 100, 3)).astype(np.float16),
            label=np.arange(count) % 3, class_names=np.array(["a", "b", "c"]),
            description=np.array([f"a thing with {i % 3} legs" for i in range(count)]),
        )  # fmt: skip
    data = open_data(tmp_path, ("points",))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 12, "test": 4}
    assert data.info.shapes == {"points": (100, 3)} and data.info.classes == ("a", "b", "c")
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    both = open_data("{train,test}.npz", ("points", "text"), points=50)
    batch = both.splits["test"].take([1])
    assert batch["points"].shape == (1, 50, 3)
    assert both.tokenizer.decode(batch["text"][0].tolist()) == "a thing with 1 legs"
    np.save(tmp_path / "one.npy", rng.normal(size=(30, 3)))
    assert len(open_data("one.npy", ("points",)).splits["train"]) == 1
    with pytest.raises(UserError, match="no video in"):
        open_data("train.npz", ("video",))


def test_arrays_of_video_and_sound(tmp_path):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (6, 5, 20, 24, 3), dtype=np.uint8)
    audio = rng.integers(-999, 999, (6, 800)).astype(np.int16)
    np.savez(tmp_path / "a.npz", video=video, audio=audio, label=np.arange(6) % 2, fps=10, rate=1600)
    data = open_data("a.npz", ("video", "audio"), test_fraction=0)
    assert data.info.shapes == {"video": (5, 20, 20, 3), "audio": (800,)}
    assert data.info.rates == {"video": 10.0, "audio": 1600.0}
    batch = data.splits["train"].take(range(6))
    assert np.array_equal(batch["video"].numpy(), video[:, :, :, 2:22]) and np.array_equal(batch["audio"], audio)


TONE = np.sin(np.arange(1600) / 10)


@pytest.mark.parametrize(
    ("stored", "want", "note"),
    [
        ((TONE * 20000).astype("i2"), 20000, None),
        ((TONE * 20000).astype("i4"), 20000, "int32 sound reaches 19999: it counts as one of 16 bits"),
        ((TONE * 20000).astype("i8"), 20000, "int64 sound reaches 19999: it counts as one of 16 bits"),
        ((TONE * 2**22).astype("i4"), 2**14, "counts as one of 24 bits"),
        ((TONE * 2**30).astype("i4"), 2**14, None),
        ((TONE * 2**30).astype("i8"), 2**14, "counts as one of 32 bits"),
        ((128 + TONE * 100).astype("u1"), 25600, None),
        ((TONE * 100).astype("i1"), 25600, None),
        ((2**15 + TONE * 20000).astype("u2"), 20000, None),
        (TONE / 2, 2**14, None),
        (TONE.astype("f4") * 20000, 20000, "float32 sound reaches"),
    ],
)
def test_arrays_of_sound_of_every_type(tmp_path, stored, want, note):
    np.savez("a.npz", audio=np.stack([stored, stored // 4 if stored.dtype.kind == "i" else stored]), rate=8000)
    data = open_data("a.npz", ("audio",), test_fraction=0)
    found = data.splits["train"].take([0])["audio"][0]
    step = 2 ** max(0, 16 - 8 * stored.dtype.itemsize)  # of 8 bits
    assert (found - torch.from_numpy(TONE * want)).abs().max() <= 1 + step
    assert len(data.notes) == bool(note) and (note or "") in "".join(data.notes)


def test_arrays_of_sound_that_cannot_be_meant(tmp_path):
    np.savez("a.npz", audio=np.stack([TONE, TONE + np.inf]), rate=8000)
    train = open_data("a.npz", ("audio",), test_fraction=0).splits["train"]
    assert len(train) == 1 and train.skipped == [("a.npz row 1", "samples are not finite")]
    for array, why in (
        ((TONE[None] * 1e15).astype("i8"), "more than 32 bits"),
        (np.ones((2, 9), "u8"), "holds no audio"),
    ):
        np.savez("b.npz", audio=array, rate=8000)
        with pytest.raises(UserError, match=why):
            open_data("b.npz", ("audio",))
    np.savez("c.npz", audio=np.stack([TONE, TONE * 3]).astype("f4"), rate=8000)
    assert "beyond 1 is cut off" in "".join(open_data("c.npz", ("audio",), test_fraction=0).notes)
    with pytest.raises(UserError, match="has 8000 samples a second, not 16000"):
        open_data("c.npz", ("audio",), sample_rate=16000)


# text


@pytest.mark.parametrize(
    ("labels", "want", "classes", "notes"),
    [
        (["--0", "²", None, "--0"], [0, 1, -1, 0], ("--0", "²"), []),
        ([[1], {"a": 1}, 0, 1], [-1, -1, 0, 1], ("0", "1"), ["2 labels are no class, such as [1]: not used"]),
        ([float("nan"), True, 0.0, ""], [-1, 1, 0, -1], ("0", "1"), []),
        ([0.5, 1.0, 2, 3], [], (), ["labels such as 0.5 are no classes: not used"]),
    ],
)
def test_labels_of_tables(tmp_path, labels, want, classes, notes):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": "a cat", "label": label}) for label in labels))
    data = open_data("a.jsonl", ("text",), test_fraction=0)
    train = data.splits["train"]
    assert train.take(range(4)).get("label", torch.zeros(0)).tolist() == want
    assert train.classes == classes and data.notes == notes


@pytest.mark.parametrize("name", [None, "", 5, "a\0b.jpg", "\ud800.jpg", ...])
def test_rows_of_tables_without_a_path_are_left_out_and_named(tmp_path, name):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    rows = [{"text": "no picture", "file_name": name}, {"text": "a cat", "file_name": "a.jpg"}]
    rows[0] = {k: v for k, v in rows[0].items() if v is not ...}
    for order in (1, -1):
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows[::order])))
        for spec in ("t.jsonl", "."):
            train = open_data(spec, ("image", "text")).splits["train"]
            row = 0 if order == 1 else 1
            assert len(train) == 1 and train.skipped == [(f"t.jsonl row {row}", "no path in file_name")]
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "no picture", "file_name": None}))
    with pytest.raises(UserError, match=r"no row of t\.jsonl names a file in its column file_name"):
        open_data("t.jsonl", ("image", "text"))


def corpus(count=60):
    return [f"The {'cat' if i % 2 else 'dog'} sat on mat number {i}, and it was happy." for i in range(count)]


def test_text_tables(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    lines = corpus()
    for split, part in (("train", lines[:50]), ("test", lines[50:])):
        rows = [json.dumps({"text": line, "label": i % 2}) for i, line in enumerate(part)]
        (tmp_path / f"pets_{split}.jsonl").write_text("\n".join(rows) + "\n\n")
    data = open_data("pets_{train,test}.jsonl", ("text",))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 50, "test": 10}
    ids = data.splits["train"].take([3])
    assert ids["text"].dtype == torch.int64 and ids["label"].tolist() == [1]
    row = ids["text"][0].tolist()
    assert row[0] == START and row.count(END) == 1 and set(row[row.index(END) + 1 :]) <= {PAD}
    assert data.tokenizer.decode(row) == lines[3], "back without loss"
    assert data.info.vocabulary == data.tokenizer.size > max(row)
    short = open_data("pets_train.jsonl", ("text",), words=6, test_fraction=0)
    assert short.info.shapes == {"text": (6,)} and END not in short.splits["train"].take([3])["text"]
    (tmp_path / "a.csv").write_text('sentence,label\n"one, two",x\nthree,y\n')
    train = open_data("a.csv", ("text",), test_fraction=0).splits["train"]
    assert train.classes == ("x", "y") and train.take(range(2))["label"].tolist() == [0, 1]
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(UserError, match=r"bad\.jsonl line 2 is no JSON"):
        open_data("bad.jsonl", ("text",))
    (tmp_path / "no.jsonl").write_text('{"words": "fine"}\n')
    with pytest.raises(UserError, match="no column of text, only words"):
        open_data("no.jsonl", ("text",))


def test_documents_are_cut_between_words(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    document = "\n".join(corpus())
    (tmp_path / "book.txt").write_text(document)
    data = open_data("book.txt", ("text",), words=32, test_fraction=0)
    train = data.splits["train"]
    rows = train.take(torch.arange(len(train)))["text"]
    assert (rows[:, 0] == START).all() and (rows == END).sum(1).eq(1).all(), "nothing is lost at the ends"
    joined = " ".join(data.tokenizer.decode(row.tolist()) for row in rows)
    assert joined.split() == document.split()
    again = open_data("book.txt", ("text",), words=32, test_fraction=0).splits["train"]
    assert torch.equal(again.take([0, 5])["text"], train.take([0, 5])["text"])


def test_tokenizers_are_kept_and_used_again(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in corpus()))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": f"bird {i}"}) for i in range(9)))
    first = open_data("a.jsonl", ("text",), vocabulary=300)
    assert first.tokenizer.size == 300
    first.tokenizer.save(tmp_path / "tokenizer.json")
    other = open_data("b.jsonl", ("text",), tokenizer=str(tmp_path / "tokenizer.json"), test_fraction=0)
    assert other.tokenizer.to_json() == first.tokenizer.to_json()
    assert other.tokenizer.decode(other.splits["train"].take([4])["text"][0].tolist()) == "bird 4"
    with pytest.raises(UserError, match="no room"):
        open_data("a.jsonl", ("text",), vocabulary=99)
    (tmp_path / "other.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        open_data("a.jsonl", ("text",), tokenizer=str(tmp_path / "other.json"))


def test_words_need_no_library():
    made = text.Words(("a", "ball", ".", "red"))
    assert made.encode("A red ball.") == [5, 8, 6, 7] and made.encode("a cube") == [5, UNKNOWN]
    assert made.decode([START, 5, 8, 6, 7, END]) == "a red ball." and made.size == 9
    assert text.load(made.to_json()) == made
    out = np.empty(5, np.int64)
    text.Sentence(5, made)("red ball", out)
    assert out.tolist() == [START, 8, 6, END, PAD]


# pairs


def check_pairs(data, captions):
    batch = data.splits["train"].take(range(len(captions)))
    assert [data.tokenizer.decode(row.tolist()) for row in batch["text"]] == captions
    assert batch["image"].shape[0] == len(captions)
    pictures = [torch.from_numpy(np.asarray(__import__("PIL.Image").Image.open(io.BytesIO(jpeg(i))))) for i in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(batch["image"], pictures))


def test_pictures_with_captions_in_every_format(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    captions = [f"a picture of thing {i}" for i in range(8)]
    table = pa.table(
        {"image": [{"bytes": jpeg(i), "path": None} for i in range(8)], "caption": captions, "text": ["x"] * 8}
    )
    pq.write_table(table, tmp_path / "p.parquet")
    check_pairs(open_data("p.parquet", ("image", "text"), test_fraction=0), captions)
    members = {}
    for i in range(8):
        members |= {f"{i}.jpg": jpeg(i), **({f"{i}.txt": captions[i].encode()} if i % 2 else
                                            {f"{i}.json": json.dumps({"caption": captions[i]}).encode()})}  # fmt: skip
    members["alone.jpg"] = jpeg(9)
    check_pairs(open_data(write_tar(tmp_path / "p.tar", members), ("image", "text"), test_fraction=0), captions)
    write_folder(tmp_path / "csv", classes=())
    rows = [f"{i:03}.jpg,{captions[i]}" for i in range(8)]
    (tmp_path / "csv" / "captions.csv").write_text("file_name,caption\n" + "\n".join(rows) + "\n")
    check_pairs(open_data("csv", ("image", "text"), test_fraction=0), captions)
    check_pairs(open_data("csv/captions.csv", ("image", "text"), test_fraction=0), captions)
    write_folder(tmp_path / "side", classes=())
    for i in range(8):
        (tmp_path / "side" / f"{i:03}.txt").write_text(captions[i])
    check_pairs(open_data("side", ("image", "text"), test_fraction=0), captions)
    for i in range(8):
        os.unlink(tmp_path / "side" / f"{i:03}.txt")
    with pytest.raises(UserError, match="no captions in"):
        open_data("side", ("image", "text"))


def test_pairs_without_labels_have_a_test_split(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    rows = {
        "image": [{"bytes": jpeg(i), "path": None} for i in range(20)],
        "caption": [f"thing {i}" for i in range(20)],
    }
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    data = open_data("p.parquet", ("image", "text"))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 18, "test": 2}
    assert "label" not in data.splits["train"].columns
    assert "test" not in open_data("p.parquet").splits


# forms


def test_stored_forms_are_checked():
    assert as_stored("image", np.zeros((2, 4, 4, 3), np.uint8)).shape == (2, 4, 4, 3)
    with pytest.raises(UserError, match=r"audio must be int16 \(N, S\), this is float32 \(3,\)"):
        as_stored("audio", np.zeros(3, np.float32))
    with pytest.raises(UserError, match="frames=0"):
        Form(frames=0)
    with pytest.raises(UserError, match="no column 'pictures'"):
        open_data("x", ("pictures",))


def test_streams_decode_what_the_cache_holds(tmp_path):
    film(tmp_path / "a.mkv", 40, 10, sound=np.arange(32000, dtype=np.int16))
    form = {"frames": 10, "fps": 10, "size": 16, "sample_rate": 4000}
    kept = open_data("a.mkv", ("video", "audio"), **form).splits["train"]
    stream = open_data("a.mkv", ("video", "audio"), cache="never", **form).splits["train"]
    assert isinstance(stream.columns["video"], EncodedColumn) and not isinstance(kept.columns["video"], EncodedColumn)
    rows = torch.tensor([3, 0, 2, 1])
    a, b = kept.take(rows), stream.take(rows)
    assert all(torch.equal(a[k], b[k]) for k in ("video", "audio"))


# real sets


def test_real_sound_and_video(real_data):
    pytest.importorskip("soundfile", reason="soundfile is an extra")
    pytest.importorskip("av", reason="PyAV is an extra")
    spoken = open_data(real_data / "fsdd", ("audio",))
    assert 2700 <= len(spoken.splits["train"]) < 2800 and 300 <= len(spoken.splits["test"]) < 310
    assert spoken.info.rates == {"audio": 8000.0} and len(spoken.info.classes) == 10
    files = open_data(real_data / "video-files", ("video", "audio"), size=32, cache="never")
    assert 20 < len(files.splits["train"]) < 30 and files.info.shapes["video"] == (16, 40, 40, 3)


def test_real_clouds_and_text(real_data):
    pytest.importorskip("tokenizers", reason="tokenizers is an extra")
    shapes = open_data(real_data / "ldraw-shapes", ("points",))
    assert {k: len(v) for k, v in shapes.splits.items()} == {"train": 980, "test": 321} and len(
        shapes.info.classes
    ) == 16
    scenes = open_data(real_data / "lidar-rgbd-scenes", ("points",))
    assert len(scenes.splits["train"]) == 3
    questions = open_data(f"{real_data}/text/trec_{{train,test}}.jsonl", ("text",))
    assert {k: len(v) for k, v in questions.splits.items()} == {"train": 5452, "test": 500}
    pairs = open_data(real_data / "exercise-captions", ("image", "text"), size=32)
    assert {k: len(v) for k, v in pairs.splits.items()} == {"train": 1072, "test": 188}


def test_a_label_of_a_long_recording_is_for_all_of_its_pieces(tmp_path):
    (tmp_path / "s").mkdir()
    for k, seconds in enumerate((3.0, 1.0, 2.0)):
        wave(tmp_path / f"s/{k}.wav", seconds)
    d = open_data(tmp_path / "s", ("audio",), seconds=1.0)
    train, file = d.splits["train"], tmp_path / "labels.csv"
    assert [train.name_of(row) for row in range(6)] == [
        "0.wav", "0.wav at 1 s", "0.wav at 2 s", "1.wav", "2.wav", "2.wav at 1 s"
    ]  # fmt: skip
    file.write_text("0.wav,dog\n2.wav at 1 s,cat\n")
    give(d, str(file))
    assert given(train).tolist() == [1, 1, 1, -1, -1, 0]
    file.write_text("0.wav,dog\n0.wav at 1 s,cat\n")
    with pytest.raises(UserError, match="has two labels"):
        give(d, str(file))
