"""Protocols across modalities, of words, of segments and of motion, against naive loops and known answers."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import UserError
from nolabel.core.types import END, PAD, START
from nolabel.data.columns import ArrayColumn
from nolabel.data.split import Data, Split
from nolabel.data.text import Words
from nolabel.evaluate.baselines import RawInput
from nolabel.evaluate.features import EvalData
from nolabel.evaluate.judge import judge, judge_pairs
from nolabel.evaluate.knn import KNN
from nolabel.evaluate.perplexity import NGram, Perplexity
from nolabel.evaluate.propagation import Propagation, jaccard, outlines, propagate
from nolabel.evaluate.retrieval import Retrieval, recall
from nolabel.evaluate.segments import Segments, aligned, mean_iou
from nolabel.evaluate.zeroshot import ZeroShot


class Flat(nn.Module):
    """An encoder that hands its input on."""

    def forward(self, x):
        return x.flatten(1).float()


# retrieval


def test_recall_against_a_loop():
    rng = torch.Generator().manual_seed(0)
    query, target = torch.randn(40, 6, generator=rng), torch.randn(40, 6, generator=rng)
    group = torch.randint(25, (40,), generator=rng)
    found = recall(query, target, group)
    for k in (1, 5, 10):
        hits = 0
        for i in range(40):
            s = [float(F.cosine_similarity(query[i], target[j], dim=0)) for j in range(40)]
            best = sorted(range(40), key=lambda j: -s[j])[:k]
            hits += any(group[j] == group[i] for j in best)
        assert found[f"r{k}"] == pytest.approx(100 * hits / 40)
    assert recall(query, query, torch.arange(40))["r1"] == 100
    assert recall(torch.ones(40, 6), torch.ones(40, 6), torch.arange(40))["r10"] == 0, "a constant finds nothing"


def pairs(count=120, classes=4):
    """Images whose brightness is their class, captions that name it."""
    rng = torch.Generator().manual_seed(1)
    y = torch.randint(classes, (count,), generator=rng)
    image = (y[:, None, None, None] * 50 + torch.randint(5, (count, 4, 4, 3), generator=rng)).byte()
    names = ("ant", "bee", "cat", "dog")
    tokenizer = Words((*names, "a", "the", "photo", "of"))
    text = torch.full((count, 5), PAD)
    for row, c in zip(text, y.tolist()):
        ids = [START, *tokenizer.encode(f"a {names[c]}"), END]
        row[: len(ids)] = torch.tensor(ids)
    split = Split("test", {"image": ArrayColumn(image), "text": ArrayColumn(text), "label": ArrayColumn(y)}, names)
    return Data("pairs", {"train": split, "test": split}), tokenizer


class Sees(nn.Module):
    """Brightness on a circle."""

    def forward(self, x):
        angle = x.float().mean((1, 2, 3)) / 50 * 1.3
        return torch.stack((angle.cos(), angle.sin()), 1)


class Reads(nn.Module):
    """The named class on the same circle."""

    def forward(self, ids):
        named = torch.where((ids >= 5) & (ids < 9), ids - 5, 0).sum(1)
        return torch.stack(((named * 1.3).cos(), (named * 1.3).sin()), 1)


def test_pairs_are_judged_in_both_directions():
    data, tokenizer = pairs()
    nets, transforms = {"image": Sees(), "text": Reads()}, {k: (lambda b, k=k: b[k]) for k in ("image", "text")}
    fresh = {"image": lambda: nn.Sequential(nn.Flatten(), Half()), "text": lambda: nn.Sequential(nn.Flatten(), Half())}
    rows, notes = judge_pairs(
        [Retrieval(), ZeroShot()],
        nets,
        lambda m: fresh[m](),
        data,
        transforms,
        precision="fp32",
        tokenizer=tokenizer,
        words=5,
    )
    assert notes == []
    found = {(r["modality"], r["protocol"], r["metric"]): r for r in rows}
    assert found["image to text", "retrieval", "r1"]["value"] == 100, "all captions of a class count"
    assert found["text to image", "retrieval", "r1"]["value"] == 100
    assert found["image to text", "zero-shot", "top1"]["value"] == 100
    assert ("text to image", "zero-shot", "top1") not in found
    assert found["image to text", "zero-shot", "top1"]["settings"]["chance"] == 25
    assert found["image to text", "retrieval", "r1"]["random_init"] < 70
    alone = Data(
        "pictures",
        {k: Split(k, {n: s.columns[n] for n in ("image", "label")}, s.classes) for k, s in data.splits.items()},
    )
    rows, _ = judge_pairs(
        [ZeroShot()], nets, None, alone, transforms, precision="fp32", tokenizer=tokenizer, words=5
    )  # fmt: skip
    assert rows[0]["value"] == 100, "pictures without captions"


@pytest.mark.parametrize("templates", [("a {}", "a class"), ("{} and {}",), ()])
def test_a_template_has_one_place_for_the_name_of_the_class(templates):
    with pytest.raises(UserError, match=r"needs one \{\}, for the name of the class"):
        ZeroShot(templates)


class Half(nn.Module):
    """Some projection to two values."""

    def forward(self, x):
        return torch.stack((x.float()[:, ::2].sum(1).sin(), x.float()[:, 1::2].sum(1).cos()), 1)


def test_spaces_that_differ_are_told():
    data, tokenizer = pairs()
    nets = {"image": Sees(), "text": Flat()}
    transforms = {k: (lambda b, k=k: b[k]) for k in nets}
    rows, notes = judge_pairs([Retrieval(), ZeroShot()], nets, None, data, transforms, tokenizer=tokenizer, words=5)
    assert rows == [] and all("no common space" in note for note in notes) and len(notes) == 3


def test_protocols_without_labels_run_without_them():
    data, _ = pairs()
    split = data.splits["train"]
    split.classes = ()
    del split.columns["label"]
    judged = judge([KNN(), Perplexity()], Flat(), None, data, lambda b: b["text"], modality="text", geometry=None)
    assert len(judged.notes) == 2 and "only perplexity is shown" in judged.notes[0]
    assert "does not predict words" in judged.notes[1]


# perplexity


def naive_kneser_ney(train, order, d, vocabulary):
    """Probabilities from dictionaries of counts, as the formula says."""
    raw = [Counter() for _ in range(order + 1)]
    for row in train:
        for n in range(1, order + 1):
            for i in range(max(1, n - 1), len(row)):
                raw[n][tuple(row[i - n + 1 : i + 1])] += 1
    tables = [None] * (order + 1)
    for n in range(1, order + 1):
        if n == order:
            tables[n] = raw[n]
            continue
        tables[n] = Counter(g[1:] for g in raw[n + 1])
        for g, c in raw[n].items():
            if g[0] == START:
                tables[n][g] += c

    def p(word, context):
        if len(context) == 0:
            lower = 1 / vocabulary
        else:
            lower = p(word, context[1:])
        table = tables[len(context) + 1]
        words = {g[-1]: c for g, c in table.items() if g[:-1] == tuple(context)}
        if not words:
            return lower
        total = sum(words.values())
        return (max(words.get(word, 0) - d, 0) + d * len(words) * lower) / total

    return p


def test_kneser_ney_against_dictionaries():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        length = int(rng.integers(2, 8))
        body = [int(w) for w in 5 + rng.integers(0, 6, length) * rng.integers(0, 2, length)]
        rows.append([START, *body, END])
    ids = np.full((40, 10), PAD)
    for row, out in zip(rows, ids):
        out[: len(row)] = row
    for order in (1, 2, 3, 5):
        model = NGram(ids[:30], order, 0.75)
        vocabulary = len({w for row in rows[:30] for w in row}) + 1
        p = naive_kneser_ney(rows[:30], order, 0.75, vocabulary)
        want = [math.log(p(row[i], row[max(0, i - order + 1) : i])) for row in rows[30:] for i in range(1, len(row))]
        np.testing.assert_allclose(model.log_p(ids[30:]), want, rtol=1e-9)
        context = [START] if order > 1 else []
        seen = sum(p(w, context) for w in (*range(5, 11), END))
        assert seen < 1 and seen + 2 * p(99, context) == pytest.approx(1), "START and one more word share the rest"


class Bigram(nn.Module):
    """A causal encoder that knows the last word alone: h = its one-hot, scored by a table."""

    causal = True

    def __init__(self, logits):
        super().__init__()
        self.words = nn.Embedding.from_pretrained(logits.T.contiguous())
        self.dim = len(logits)

    def encode(self, ids):
        return F.one_hot(ids, self.dim).float()


def test_perplexity_is_that_of_the_formula():
    rng = torch.Generator().manual_seed(0)
    text = torch.randint(5, 9, (20, 7), generator=rng)
    text[:, 0] = START
    text[::3, 5:] = PAD
    split = Split("test", {"text": ArrayColumn(text)}, ())
    data = EvalData({"train": split, "test": split}, lambda b: b["text"], precision="fp32", modality="text")
    logits = torch.randn(9, 9, generator=rng)
    found = Perplexity()(Bigram(logits), data)
    total = [
        -float(logits[text[i, t - 1]].log_softmax(0)[text[i, t]])
        for i in range(20)
        for t in range(1, 7)
        if text[i, t] != PAD
    ]
    assert found["perplexity"] == pytest.approx(math.exp(sum(total) / len(total)), rel=1e-5)
    assert Perplexity()(Bigram(torch.zeros(9, 9)), data)["perplexity"] == pytest.approx(9, rel=1e-5)
    ngram = Perplexity(order=2)(RawInput("text", (7,)), data)
    assert 1 < ngram["perplexity"] < 9
    with pytest.raises(UserError, match="does not predict"):
        Perplexity()(Flat(), data)


# segments


def test_mean_iou_against_sets():
    rng = torch.Generator().manual_seed(0)
    guess, truth = torch.randint(4, (200,), generator=rng), torch.randint(3, (200,), generator=rng)
    ious = []
    for c in range(3):
        a, b = set((guess == c).nonzero()[:, 0].tolist()), set((truth == c).nonzero()[:, 0].tolist())
        ious.append(len(a & b) / len(a | b))
    assert mean_iou(guess, truth) == pytest.approx(100 * sum(ious) / 3)
    assert mean_iou(truth, truth) == 100


def test_elements_are_aligned_with_their_segments():
    stored = torch.arange(100)[None]
    assert aligned(stored, 4, "points").tolist() == [[0, 25, 50, 75]]
    assert aligned(stored, 4, "audio").tolist() == [[12, 37, 62, 87]]
    assert aligned(stored, 2, "audio", 0.5).tolist() == [[37, 62]]


class PointNet(nn.Module):
    def points(self, x):
        return x[..., 1:2]  # knows the height alone


def test_segments_of_clouds_are_found_by_what_features_know():
    rng = torch.Generator().manual_seed(0)
    cloud = torch.rand(60, 50, 3, generator=rng)
    part = (cloud[..., 1] > 0.5).long()
    columns = {"points": ArrayColumn(cloud), "segmentation": ArrayColumn(part)}
    splits = {k: Split(k, columns, ()) for k in ("train", "test")}
    data = EvalData(splits, lambda b: b["points"], precision="fp32", modality="points")
    found = Segments(shots=10)(PointNet(), data)
    assert found["top1"] > 97 and found["miou"] > 94
    assert (
        Segments(shots=10, draws=1)(PointNet(), data)["miou_std"] == 0 < Segments(shots=1)(PointNet(), data)["miou_std"]
    )
    assert Segments(shots=10)(RawInput("points", (50, 3)), data)["top1"] > 95
    blind = PointNet()
    blind.points = lambda x: x[..., :1]
    assert Segments(shots=10)(blind, data)["top1"] < 60
    with pytest.raises(UserError, match="no features of single elements"):
        Segments()(Flat(), data)


# propagation


def moving(shift=1, count=6, side=16):
    """A square that moves right, on ground of random features that move with nothing."""
    rng = torch.Generator().manual_seed(0)
    ground, own = torch.randn(8, side, side, generator=rng), torch.randn(8, 4, 4, generator=rng)
    maps, masks = ground.repeat(count, 1, 1, 1), torch.zeros(count, side, side, dtype=torch.long)
    for t in range(count):
        at = 2 + shift * t
        maps[t, :, 6:10, at : at + 4] = own
        masks[t, 6:10, at : at + 4] = 1
    return maps, masks


def test_labels_go_where_their_features_go():
    maps, masks = moving()
    first = F.one_hot(masks[0], 2).permute(2, 0, 1).float()
    labels = propagate(maps, first, topk=1, radius=3)
    assert torch.equal(labels.argmax(1), masks)
    still = propagate(maps[:1].repeat(4, 1, 1, 1), first, topk=1)
    assert all(torch.equal(still[t], first) for t in range(4)), "equal frames hand labels on as they are"


def test_propagation_against_a_loop():
    rng = torch.Generator().manual_seed(2)
    maps, first = torch.randn(4, 5, 3, 3, generator=rng), torch.rand(2, 3, 3, generator=rng)
    got = propagate(maps, first, topk=4, radius=1, context=1, temperature=0.2)
    f = F.normalize(maps, dim=1)
    labels = [first]
    for t in range(1, 4):
        out = torch.zeros(2, 3, 3)
        for y in range(3):
            for x in range(3):
                asked = []
                for s in sorted({0, max(0, t - 1)} if t > 1 else {0}):
                    for v in range(3):
                        for u in range(3):
                            if s == 0 or max(abs(v - y), abs(u - x)) <= 1:
                                asked.append((float(f[t, :, y, x] @ f[s, :, v, u]), s, v, u))
                best = sorted(asked, reverse=True)[:4]
                weight = torch.tensor([b[0] / 0.2 for b in best]).softmax(0)
                for w, (_, s, v, u) in zip(weight, best):
                    out[:, y, x] += w * labels[s][:, v, u]
        labels.append(out)
    torch.testing.assert_close(got, torch.stack(labels), rtol=1e-5, atol=1e-6)


def test_j_and_f_know_their_ends():
    a = torch.zeros(2, 20, 20, dtype=torch.bool)
    a[:, 5:12, 5:12] = True
    b = a.roll(4, 2)
    assert jaccard(a, a) == 1 and outlines(a, a) == 1
    assert jaccard(a, b) == pytest.approx(21 / 77)
    assert outlines(a, b) < 0.8 and outlines(a, a.roll(1, 2)) == 1, "one pixel is within the tolerance"
    none = torch.zeros_like(a)
    assert jaccard(none, none) == outlines(none, none) == 1 and outlines(a, none) == 0


class Pixels(nn.Module):
    def maps(self, x):
        return x.mean((2, 3)), [x, F.avg_pool2d(x, 2)]


def test_propagation_of_clips():
    _, masks = moving(count=5, side=32)
    rng = torch.Generator().manual_seed(0)
    video = torch.randint(0, 60, (3, 1, 32, 32, 3), generator=rng).expand(-1, 5, -1, -1, -1).clone()
    video[:, masks.bool()] += 150
    columns = {"video": ArrayColumn(video.byte()), "segmentation": ArrayColumn(masks.byte()[None].repeat(3, 1, 1, 1))}
    splits = {k: Split(k, columns, ()) for k in ("train", "test")}

    def frame(batch):
        return batch["video"][:, 0].permute(0, 3, 1, 2).float() / 255 - 0.3

    data = EvalData(splits, frame, precision="fp32")
    found = Propagation(cells=16, topk=3)(Pixels(), data)
    assert found["j"] > found["copy_first"] + 20 and 0 < found["f"] <= 100
    assert found["score_jf"] == pytest.approx((found["j"] + found["f"]) / 2)
    raw = Propagation(cells=16, topk=3)(RawInput("image", (3, 32, 32)), data)
    assert raw["j"] > 0
    with pytest.raises(UserError, match="no maps"):
        Propagation()(Flat(), data)
