"""Sounds, speech, clouds and words of the toy world: each says what its facts say, and nothing depends on the batch."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from nolabel.core import UserError
from nolabel.data import open_data, toy
from nolabel.data.toyworld import captions, corpus, shapes, sound, speech, video
from nolabel.data.toyworld.factors import MATERIALS, SHAPES, factors, uniform

INDEX = np.arange(200)


@pytest.fixture(autouse=True)
def cache_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(toy, "TRAIN", 120)
    monkeypatch.setattr(toy, "TEST", 40)


@pytest.fixture(scope="module")
def clips():
    return video.render(INDEX, 16, 16, "easy", extras=("audio", "keypoints"), rate=8000)


# sound


def test_sound_does_not_depend_on_its_batch(clips):
    one = video.render([17], 16, 16, "easy", extras=("audio",))
    np.testing.assert_array_equal(one["audio"][0], clips["audio"][17])
    assert clips["audio"].dtype == np.int16 and clips["audio"].shape == (200, round(8000 * 16 / 15))
    assert video.render([3], 16, 16, extras=("audio",), rate=16000)["audio"].shape == (1, 17067)


def test_a_sound_begins_at_its_impact(clips):
    found = 0
    for b in range(200):
        times = clips["events"]["time"][(clips["events"]["clip"] == b) & (clips["events"]["speed"] > 1)]
        if len(times) == 0 or not 0.1 < times[0] < 1.0:
            continue
        wave, at = clips["audio"][b].astype(float), times[0] * 8000
        before = np.abs(wave[max(0, int(at) - 400) : int(at) - 1]).max()
        if any(abs(t - times[0]) < 0.06 for t in clips["events"]["time"][clips["events"]["clip"] == b] if t < times[0]):
            continue
        assert np.abs(wave[int(at) : int(at) + 80]).max() > 3 * before
        found += 1
    assert found > 20


def naive_strike(samples, rate, time, pitch, decay, loud):
    t = np.arange(samples) / rate - time
    on = (t >= 0) & (t * rate < math.floor(7 * decay * rate) + 1)
    parts = [
        a * np.exp(-t / decay) * np.sin(2 * np.pi * k * pitch * t) for k, a in sound.MODES if k * pitch <= 0.45 * rate
    ]
    return loud * np.where(on, sum(parts), 0)


def test_a_strike_is_a_sum_of_damped_modes():
    wave = np.zeros(2000)
    sound._strike(wave, 8000.0, 0.02131, 900.0, 0.04, 1000.0, np.array(sound.MODES))
    np.testing.assert_allclose(wave, naive_strike(2000, 8000, 0.02131, 900.0, 0.04, 1000.0), atol=1.5)


def test_materials_sound_unlike_and_the_room_does_not_matter_to_them():
    again = video.render(INDEX, 16, 16, "easy", extras=("audio",), resample=("room",))
    first = video.render(INDEX, 16, 16, "easy", extras=("audio",))
    assert not np.array_equal(first["audio"], again["audio"])
    np.testing.assert_array_equal(first["video"], again["video"])
    loud = np.unique(first["events"]["clip"][first["events"]["speed"] > 1])
    peak = []
    for which in (first, again):
        spectrum = np.abs(np.fft.rfft(which["audio"][loud] * np.hanning(8533)))
        peak.append(100 + spectrum[:, 100:].argmax(1))
    assert np.corrcoef(np.log(peak[0]), np.log(peak[1]))[0, 1] > 0.9
    material = first["material"][loud, 0]
    expected = np.array(sound.PITCH)[material]
    assert np.corrcoef(np.log(peak[0]), np.log(expected))[0, 1] > 0.8, MATERIALS


def test_keypoints_turn_with_their_object(clips):
    points = clips["keypoints"][:, :, 0]
    np.testing.assert_allclose(points[:, :, 0], 16 * clips["position"][:, :, 0] - 0.5, atol=1e-4)
    np.testing.assert_allclose(points[:, :, 1:].mean(2), points[:, :, 0], atol=1e-4)
    arm = points[:, :, 1] - points[:, :, 0]
    turned = np.arctan2(arm[..., 1], arm[..., 0]) - clips["angle"][:, :, 0]
    np.testing.assert_allclose(np.cos(turned), 1, atol=1e-4)


# speech


def test_speech_is_what_its_labels_say():
    found = speech.render(INDEX, 1.0, 8000)
    one = speech.render([17], 1.0, 8000)
    assert all(np.array_equal(one[k][0], found[k][17]) for k in found)
    assert found["audio"].shape == (200, 8000) and found["phone"].shape == (200, 100)
    assert set(found["speaker"]) == set(range(speech.SPEAKERS))
    letters = [[speech.PHONES[p] for p in row] for row in found["phone"]]
    words = [[speech.WORDS[w] for w in row] for row in found["word"]]
    assert all(a in b for row, of in zip(letters, words) for a, b in zip(row, of))
    assert all(
        Counter(of).most_common(1)[0][1] == of.count(speech.WORDS[label]) for of, label in zip(words, found["label"])
    )
    runs = [len(list(run)) for row in letters for run in _runs(row)[1:-1]]
    assert min(runs) >= 5 and np.mean([r <= 17 for r in runs]) > 0.95, "60 to 160 ms"


def _runs(row):
    runs = [[row[0]]]
    for a, b in pairwise(row):
        if a == b:
            runs[-1].append(b)
        else:
            runs.append([b])
    return runs


def test_phones_are_told_by_their_spectrum_and_speakers_by_their_pitch():
    found = speech.render(np.arange(300), 1.0, 8000)
    frames = found["audio"].reshape(300, 100, 80).astype(float)
    power = np.log(np.abs(np.fft.rfft(frames * np.hanning(80))) ** 2 + 1e3)
    power -= power.mean((1, 2), keepdims=True)
    x, y = power.reshape(-1, 41), found["phone"].reshape(-1)
    train = np.arange(len(y)) < 20000
    centres = np.stack([x[train & (y == p)].mean(0) for p in range(len(speech.PHONES))])
    guess = ((x[~train, None] - centres) ** 2).sum(2).argmin(1)
    assert (guess == y[~train]).mean() > 0.4
    others = speech.render(INDEX, unheard=True, silent=True)
    assert min(others["speaker"]) >= speech.SPEAKERS and "audio" not in others
    same = speech.render(INDEX, resample=("speaker",))
    assert np.array_equal(same["phone"], found["phone"][:200]) and not np.array_equal(
        same["audio"], found["audio"][:200]
    )


# clouds


def test_points_lie_on_their_pieces():
    found = shapes.render(INDEX, 400)
    one = shapes.render([17], 400)
    assert all(np.array_equal(one[k][0], found[k][17]) for k in found)
    assert found["points"].shape == (200, 400, 3) and found["points"].dtype == np.float32
    assert np.abs(np.linalg.norm(found["points"], axis=2).max(1) - 1).max() < 0.02
    np.testing.assert_allclose(np.linalg.norm(found["normals"], axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(shapes.kinds(INDEX), found["label"])
    parts = {
        shapes.CLASSES[k]: {shapes.PARTS[p] for p in np.unique(found["part"][found["label"] == k])} for k in range(6)
    }
    assert parts["table"] == {"top", "leg"} and parts["mug"] == {"cup", "handle"}
    assert parts["plane"] == {"fuselage", "wing", "tail"} and parts["car"] == {"body", "cabin", "wheel"}


def test_areas_get_their_share_of_points_and_normals_point_outwards():
    points, normals = np.empty((1, 40000, 3)), np.empty((1, 40000, 3))
    part, piece = np.empty((1, 40000), np.int64), np.empty((1, 40000), np.int64)
    pieces = np.zeros((1, 8, 9))
    pieces[0, 0] = (0, 3, 1, 0, 0, 0, 1, 2, 3)  # a box of 2 x 4 x 6
    pieces[0, 1] = (1, 5, 1, 9, 0, 0, 1.0, 0.5, 1)  # a frustum of height 2
    shapes._sample(pieces, np.array([2]), np.array([7], np.uint64), points, normals, part, piece)
    box = 2 * (2 * 4 + 2 * 6 + 4 * 6)
    slant = math.hypot(0.5, 2)
    frustum = math.pi * (1.5 * slant + 1 + 0.25)
    assert abs((piece == 0).mean() - box / (box + frustum)) < 0.01
    x, n = points[piece == 0], normals[piece == 0]
    assert np.allclose(np.abs(x / (1, 2, 3)).max(1), 1) and ((x * n).sum(1) > 0).all()
    assert abs((np.abs(n[:, 0]) == 1).mean() - 2 * 24 / box) < 0.02
    x, n = points[piece == 1] - (9, 0, 0), normals[piece == 1]
    mantle = np.abs(x[:, 1]) < 0.9999
    radius = 0.75 - 0.25 * x[mantle, 1]
    np.testing.assert_allclose(np.hypot(x[mantle, 0], x[mantle, 2]), radius, atol=1e-9)
    assert abs(mantle.mean() - math.pi * 1.5 * slant / frustum) < 0.02
    assert ((x * n).sum(1) > 0).all() and np.allclose(n[mantle, 1], 0.5 / slant)
    density, edges = np.histogram(x[mantle, 1], 4, (-1, 1))
    want = np.diff([y * 0.75 - 0.125 * y * y for y in edges])
    np.testing.assert_allclose(density / density.sum(), want / want.sum(), atol=0.02)


def test_a_camera_sees_the_front():
    box = np.zeros((1, 8, 9))
    box[0, 0] = (0, 0, 1, 0, 0, 0, 0.5, 0.5, 0.5)
    points, normals = np.empty((1, 4000, 3)), np.empty((1, 4000, 3))
    part, piece = np.empty((2, 1, 4000), np.int64)
    shapes._sample(box, np.array([1]), np.array([7], np.uint64), points, normals, part, piece)
    seen = shapes.seen_from(points, 0.0, 0.0)[0]
    faces = {
        tuple(f.round().astype(int)): seen[np.isclose(normals[0] @ f, 1)].mean()
        for f in np.vstack((np.eye(3), -np.eye(3)))
    }
    front = max(faces, key=faces.get)
    assert front[2] != 0 and faces[front] == 1 and faces[tuple(-np.array(front))] == 0


# words


def test_captions_say_what_is_true():
    for profile, moving in (("easy", False), ("hard", False), ("std", True)):
        table = factors(INDEX, profile)
        middle = toy._middle(profile)
        texts = captions.captions(table, uniform(0, "caption", INDEX, captions.LANES), middle, moving)
        one = captions.captions(
            {k: v[17:18] for k, v in table.items()}, uniform(0, "caption", [17], captions.LANES), middle, moving
        )
        assert one == [texts[17]]
        for row, text in enumerate(texts):
            words = text.split()
            assert set(words) <= set(captions.VOCABULARY) and len(words) <= 26
            there, _, absent = text.partition("there is no")
            shown = {SHAPES[table["shape"][row, k]] for k in range(table["count"][row])}
            allowed = {w for s in shown for w in captions.SHAPE_WORDS[s]}
            every = {w for ws in captions.SHAPE_WORDS.values() for w in ws}
            assert set(there.split()) & every <= allowed
            assert set(there.split()) & set(captions.SHAPE_WORDS[SHAPES[table["shape"][row, 0]]])
            assert not set(absent.split()) & allowed
            big = table["radius"][row, 0] > middle
            first = there.split(" and ")[0].split(" to the ")[0].split(" above ")[0].split(" below ")[0]
            assert not set(first.split()) & ({"small", "little"} if big else {"big", "large"})
    assert len(set(texts)) > 150


def test_the_language_agrees_in_number():
    found = corpus.render(np.arange(1000))
    assert corpus.render([17])["text"] == [found["text"][17]]
    nouns = {n: corpus.plural(n) for n in corpus._SINGULAR}
    verbs = {v: corpus.third(v) for v in corpus._BASE}
    many, one = set(nouns.values()), set(nouns)
    checked = 0
    for text in found["text"]:
        words = text.split()
        assert len(words) <= corpus.MOST and set(words) <= set(corpus.VOCABULARY)
        start = 1 if words[1] in one | many else 2  # the verb right after the first subject
        a, b = words[start : start + 2]
        if b in verbs or b in verbs.values():
            assert (a in many) == (b in verbs), text
            checked += 1
        for k, (a, b) in enumerate(pairwise(words)):  # a subject, and who does what
            if b == "who":
                assert (a in many) == (words[k + 2] in verbs), text
                checked += 1
    assert checked > 200
    subjects = [next(w for w in text.split() if w in one | many) for text in found["text"]]
    assert [w in many for w in subjects] == found["number"].astype(bool).tolist()
    assert corpus.third("fry") == "fries" and corpus.third("catch") == "catches" and corpus.third("play") == "plays"


def test_bits_of_the_language_are_those_of_its_choices():
    """Of one-sentence texts without clauses the bits follow from the words alone."""
    found = corpus.render(np.arange(4000))
    checked = 0
    for text, bits, topic in zip(found["text"], found["bits"], found["label"]):
        words = text.split()
        if len(words) != 4 or words[0] != "the":  # the N V .
            continue
        noun = next(n for n in corpus._SINGULAR if words[1] in (n, corpus.plural(n)))
        topical = noun in corpus._NOUNS[topic].split()
        verb = next(v for v in corpus._BASE if words[2] in (v, corpus.third(v)))
        of_topic = verb in corpus._VERBS[topic].split()
        p = (1 / 6) * 0.7 * 0.5 * (0.8 / 8 if topical else 0.2 / 4) * 0.65 * (0.8 / 4 if of_topic else 0.2 / 4)
        p *= 0.25 * 0.5 * 0.4
        assert bits == pytest.approx(-math.log2(p))
        checked += 1
    assert checked > 20


# as a data set


@pytest.mark.parametrize(
    ("spec", "columns", "shapes_", "classes"),
    [
        ("toyworld", ("image", "text"), {"image": (32, 32, 3), "text": (32,)}, SHAPES),
        ("toyworld:std", ("video",), {"video": (16, 32, 32, 3)}, video.CLASSES),
        ("toyworld", ("video", "audio"), {"video": (16, 32, 32, 3), "audio": (8533,)}, MATERIALS),
        ("toyworld", ("audio",), {"audio": (8533,)}, MATERIALS),
        ("toyworld:speech", ("audio", "segmentation"), {"audio": (8000,), "segmentation": (100,)}, speech.WORDS),
        ("toyworld", ("points", "segmentation"), {"points": (512, 3), "segmentation": (512,)}, shapes.CLASSES),
        ("toyworld", ("text",), {"text": (32,)}, corpus.TOPICS),
        ("toyworld:number", ("text",), {"text": (32,)}, ("singular", "plural")),
    ],
)
def test_columns_go_together(spec, columns, shapes_, classes):
    data = open_data(spec, columns)
    streamed = open_data(spec, columns, cache="never")
    assert data.info.shapes == shapes_ and data.info.classes == classes
    rows = torch.tensor([5, 99, 0])
    a, b = (d.splits["train"].take(rows) for d in (data, streamed))
    assert all(torch.equal(a[k], b[k]) for k in (*columns, "label"))
    alone = streamed.splits["train"].take([99])
    assert all(torch.equal(alone[k][0], a[k][1]) for k in (*columns, "label"))
    assert not torch.equal(a[columns[0]], data.splits["test"].take(rows % 40)[columns[0]])


def test_test_splits_unlike_the_training_split():
    data = open_data("toyworld:std:pairs", cache="never")
    worlds = [data.splits[s].columns["image"].world for s in ("train", "test")]
    facts = [w.facts(w.index) for w in worlds]
    held = [toy.held_out_pair(f["shape"], f["material"]) for f in facts]
    assert not held[0].any() and held[1].all() and len(held[0]) == 120 and len(held[1]) == 40
    assert set(facts[1]["shape"]) == set(range(8)), "every shape is known, and every material"
    lit = [
        open_data(s, cache="never").splits["test"].take(range(40))["image"].float()
        for s in ("toyworld", "toyworld:nuisance")
    ]
    assert lit[1].std() > lit[0].std() and not torch.equal(*lit)
    heard = open_data("toyworld:speech:speaker:speakers", ("audio",))
    of = [set(s.take(range(len(s)))["label"].tolist()) for s in heard.splits.values()]
    assert max(of[0]) < speech.SPEAKERS <= min(of[1])


def test_labels_and_forms_can_be_chosen():
    data = open_data("toyworld:material:hard", ("video",), frames=5, size=16, channels=1)
    assert data.info.shapes == {"video": (5, 16, 16, 1)} and data.info.classes == MATERIALS
    still = open_data("toyworld:reversible", ("video",), frames=5, fps=8)
    assert still.info.rates == {"video": 15.0} and still.form.fps == 15
    assert not torch.equal(
        still.splits["train"].take([1])["video"],
        open_data("toyworld", ("video",), frames=5).splits["train"].take([1])["video"],
    )
    for columns in (("image",), ("video",)):
        colored, grey = (
            open_data(spec, columns).splits["test"].take(torch.arange(20))[columns[0]].float()
            for spec in ("toyworld:nuisance", "toyworld:nuisance:grey")
        )
        luma = colored @ torch.tensor([0.299, 0.587, 0.114])
        assert (grey - luma[..., None]).abs().max() < 0.51
    sound_ = open_data("toyworld", ("audio",), seconds=0.5, sample_rate=16000)
    assert sound_.info.shapes == {"audio": (8000,)} and sound_.info.rates == {"audio": 16000.0}
    for spec, columns, text in (
        ("toyworld", ("image", "points"), "no samples with image and points"),
        ("toyworld:speekers:speech", ("audio",), "did you mean 'speakers'"),
        ("toyworld:reversible", ("image",), "no 'reversible'"),
    ):
        with pytest.raises(UserError, match=text):
            open_data(spec, columns)
    with pytest.raises(UserError, match="has no segmentation"):
        open_data("photos", ("image", "segmentation"))


def test_layers_of_an_image_agree():
    data = open_data("toyworld:hard:material", ("image", "depth", "segmentation"), cache="never")
    batch = data.splits["train"].take(torch.arange(64))
    kind, depth, label = batch["segmentation"], batch["depth"], batch["label"]
    assert kind.shape == depth.shape == (64, 32, 32)
    assert set(kind.unique().tolist()) == {-1, *range(7)} and (depth[kind == 0] == 1).all()
    assert (depth[kind == -1] < depth[kind > 0].min()).all(), "an occluder is nearest"
    front = torch.tensor([k[d == d[k > 0].min()][0] for k, d in zip(kind, depth) if (k > 0).any()])
    assert (front - 1 == label[(kind > 0).flatten(1).any(1)]).float().mean() > 0.9, "the label is the object in front"
