"""Text: windows, masked words, encoders that see what they may, and the loss over a vocabulary against a loop."""

import math

import pytest
import torch

from nolabel import encoders, methods
from nolabel.core import Clock, UserError
from nolabel.core.random import generator
from nolabel.core.types import END, MASK, PAD, START, UNKNOWN
from nolabel.losses.words import word_cross_entropy
from nolabel.views.masks import mask_texts, mask_words, take
from nolabel.views.text import OneText, Passages
from tests.support import Noise, build


def rows(*lengths, width=12):
    """Texts START 5 6 7 ... END PAD ... of so many tokens."""
    text = torch.full((len(lengths), width), PAD)
    for row, n in zip(text, lengths):
        row[:n] = torch.arange(n) + 4
        row[0], row[n - 1] = START, END
    return text


# ---- views -----------------------------------------------------------------------------------------------------------
def test_windows_are_runs_of_the_row_and_hold_no_pad_where_they_need_not():
    text = rows(12, 7, 3).repeat(200, 1)
    cut = OneText(length=5)({"text": text, "index": torch.arange(600)}, generator(0))["text"]
    assert cut.shape == (600, 5)
    starts = [set(), set(), set()]
    for k, (row, part) in enumerate(zip(text.tolist(), cut.tolist())):
        (start,) = [s for s in range(8) if row[s : s + 5] == part]
        starts[k % 3].add(start)
    assert starts == [set(range(8)), {0, 1, 2}, {0}]


def test_short_rows_stay_whole():
    text = rows(12, 7)
    assert torch.equal(OneText(length=64)({"text": text}, generator(0))["text"], text)
    assert torch.equal(OneText(length=64).plain({"text": text})["text"], text)


def test_the_beginning_of_a_cut_text_ends_with_end():
    text = torch.cat((rows(12, 7, 5), torch.arange(5, 17)[None]))  # the last is running text, without an end
    cut = OneText(length=5, crop=False)({"text": text}, generator(0))["text"]
    assert torch.equal(cut, OneText(length=5).plain({"text": text})["text"])
    assert cut.tolist() == [
        [START, 5, 6, 7, END], [START, 5, 6, 7, END], [START, 5, 6, 7, END], [5, 6, 7, 8, 9],
    ]  # fmt: skip


def test_passages_follow_each_other():
    text = torch.arange(5, 35)[None].repeat(50, 1)
    parts = Passages(count=3, length=8)({"text": text}, generator(0))["text"]
    assert parts.shape == (50, 3, 8)
    assert torch.equal(parts.flatten(1).diff(dim=1), torch.ones(50, 23, dtype=torch.long))
    assert len(parts[:, 0, 0].unique()) == 7  # 30 - 24 + 1 starts
    assert Passages(count=3, length=32)({"text": text}, generator(0))["text"].shape == (50, 3, 10)


def test_passages_are_of_running_text():
    text = rows(12, 7, 3)
    assert (Passages(count=3, length=4)({"text": text.repeat(50, 1)}, generator(0))["text"] != START).all()
    whole = Passages(count=3, length=4).plain({"text": text})["text"]
    assert torch.equal(whole[:, :-1], text[:, 1:]) and (whole[:, -1] == PAD).all(), "all of it, without START"
    bare = torch.arange(5, 17)[None]
    assert torch.equal(Passages(count=3, length=4).plain({"text": bare})["text"], bare), "END nowhere"


# ---- masked words ----------------------------------------------------------------------------------------------------
def test_masked_words_are_15_percent_of_which_80_10_10():
    vocabulary, text = 40, rows(*[40] * 3000, width=48)
    text[:, 1:39] = torch.randint(5, 40, (3000, 38), generator=generator(1))
    shown, hide, real = mask_words(text, vocabulary, rng=generator(2))
    assert hide.shape == real.shape == (3000, 7)  # round(0.15 * 48) places, round(0.15 * 38) of them count
    assert torch.equal(real.sum(1), torch.full((3000,), 6))
    true, now = take(text, hide)[real], take(shown, hide)[real]
    assert (true > UNKNOWN).all()
    n = len(true)
    share = [
        (now == MASK).double().mean(),
        (now == true).double().mean(),
        ((now != true) & (now != MASK)).double().mean(),
    ]
    chance = 1 / 35  # that any other word is the true one
    expected = [0.8, 0.1 + 0.1 * chance, 0.1 * (1 - chance)]
    for got, p in zip(share, expected):
        assert abs(got - p) < 4 * math.sqrt(p * (1 - p) / n), (share, expected)
    other = now[(now != true) & (now != MASK)]
    assert (other > UNKNOWN).all() and len(other.unique()) == 35 and other.max() == vocabulary - 1
    chosen = torch.zeros_like(text, dtype=torch.bool).scatter(1, hide, real)
    assert torch.equal(shown[~chosen], text[~chosen])


def test_every_word_is_as_likely_chosen_and_none_twice():
    text = rows(22, width=24).repeat(4000, 1)
    _, hide, real = mask_words(text, 60, rng=generator(0))
    assert all(len(set(row)) == len(row) for row in hide[:100].tolist())
    counts = torch.zeros(24).index_add_(0, hide[real], torch.ones(int(real.sum())))
    assert counts[0] == counts[21] == counts[22] == counts[23] == 0  # START, END, PAD
    assert (counts[1:21] / 4000 - 3 / 20).abs().max() < 4 * math.sqrt(0.15 * 0.85 / 4000)


def test_short_and_empty_texts():
    text = torch.tensor([[START, 9, END, PAD, PAD, PAD, PAD, PAD], [START, END] + [PAD] * 6])
    shown, hide, real = mask_words(text, 60, rng=generator(0))
    assert hide.shape == (2, 1) and real.tolist() == [[True], [False]]
    assert hide[0, 0] == 1 and torch.equal(shown[1], text[1])


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_hidden_texts_hide_a_share_of_their_own_tokens(ratio):
    text = rows(*range(2, 13)).repeat(50, 1)
    keep, seen, hide, real = mask_texts(text, ratio, generator(0))
    assert keep.shape[1] + hide.shape[1] == 12
    for row, k, s, h, r in zip(text, keep, seen, hide, real):
        tokens = (row != PAD).nonzero()[:, 0].tolist()
        kept, hidden = k[s].tolist(), h[r].tolist()
        assert sorted(kept + hidden) == tokens and len(hidden) == round(ratio * len(tokens))
    assert len({tuple(sorted(h[r].tolist())) for h, r in zip(hide[10::11], real[10::11])}) > 1


# ---- loss ------------------------------------------------------------------------------------------------------------
def naive_words(h, words, target, counts, bias):
    losses, right = [], []
    for features, true, use in zip(h.tolist(), target.tolist(), counts.tolist()):
        if use:
            scores = [sum(a * b for a, b in zip(features, w)) + c for w, c in zip(words.tolist(), bias.tolist())]
            losses.append(math.log(sum(map(math.exp, scores))) - scores[true])
            right.append(scores[true] == max(scores))
    return sum(losses) / len(losses), sum(right) / len(right)


def test_word_cross_entropy_is_the_loop_and_its_gradient_is_torchs():
    rng = generator(0)
    h, words = (torch.randn(n, 6, generator=rng, dtype=torch.double, requires_grad=True) for n in (20, 11))
    bias = torch.randn(11, generator=rng, dtype=torch.double, requires_grad=True)
    target, counts = torch.randint(11, (20,), generator=rng), torch.rand(20, generator=rng) < 0.6
    loss, accuracy = word_cross_entropy(h.view(4, 5, 6), words, target.view(4, 5), counts.view(4, 5), bias)
    expected, right = naive_words(h, words, target, counts, bias)
    assert loss.item() == pytest.approx(expected, abs=1e-9) and float(accuracy) == pytest.approx(right)
    own = torch.autograd.grad(loss, (h, words, bias))
    scores = (h @ words.T + bias)[counts]
    torchs = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, target[counts]), (h, words, bias))
    for a, b in zip(own, torchs):
        assert torch.allclose(a, b, atol=1e-9)
    assert not own[0][~counts].any()


def test_weights_make_a_weighted_mean():
    rng = generator(0)
    h, words = torch.randn(6, 4, generator=rng), torch.randn(9, 4, generator=rng)
    target, weight = torch.arange(6), torch.tensor([0.5, 0.5, 0.0, 1.0, 0.25, 0.75])
    each = torch.nn.functional.cross_entropy(h @ words.T, target, reduction="none")
    loss, _ = word_cross_entropy(h, words, target, weight)
    assert loss.item() == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-5)


def test_equal_scores_cost_the_log_of_the_vocabulary():
    loss, _ = word_cross_entropy(
        torch.zeros(3, 4), torch.randn(50, 4), torch.arange(3), torch.ones(3, dtype=torch.bool)
    )
    assert float(loss) == pytest.approx(math.log(50), abs=1e-5)


# ---- encoders --------------------------------------------------------------------------------------------------------
def net(name="tiny_text", length=12, **options):
    torch.manual_seed(0)
    return encoders.make(name, (length,), vocabulary=60, dim=24, depth=2, heads=3, **options).eval()


def test_later_words_do_not_change_causal_features():
    text = torch.randint(5, 60, (3, 12), generator=generator(0))
    changed = text.clone()
    changed[:, 7] = (changed[:, 7] + 1 - 5) % 55 + 5
    causal, both = net("tiny_causal_text"), net()
    assert torch.equal(causal.encode(text)[:, :7], causal.encode(changed)[:, :7])
    assert not torch.allclose(causal.encode(text)[:, 7:], causal.encode(changed)[:, 7:])
    assert not torch.allclose(both.encode(text)[:, :7], both.encode(changed)[:, :7])


@pytest.mark.parametrize("name", ["tiny_text", "tiny_causal_text"])
def test_padding_changes_nothing(name):
    encoder, text = net(name), torch.randint(5, 60, (3, 8), generator=generator(0))
    padded = torch.cat((text, torch.full((3, 4), PAD)), 1)
    assert torch.allclose(encoder(text), encoder(padded), atol=1e-5)
    assert torch.allclose(encoder.encode(text), encoder.encode(padded)[:, :8], atol=1e-5)


def test_words_are_not_small_beside_the_blocks():
    """Embeddings that also score words are small, and would vanish in what the blocks add to them."""
    encoder, text = net(), torch.randint(5, 60, (3, 12), generator=generator(0))
    words = encoder.embed(text).detach()
    assert encoder.words.weight.std() < 0.03 and abs(float(words.std()) - 1) < 0.05
    added = encoder.transformer.blocks[0](words) - words
    assert added.std() < words.std()
    shuffled = encoder.embed(text.flip(1)).flip(1)
    assert not torch.allclose(words, shuffled), "positions are seen as well"


def test_summaries_are_the_mean_and_the_last_word():
    text = torch.cat((torch.randint(5, 60, (2, 6), generator=generator(0)), torch.full((2, 6), PAD)), 1)
    mean, last = net(), net("tiny_causal_text")
    assert torch.allclose(mean(text), mean.encode(text)[:, :6].mean(1), atol=1e-5)
    assert torch.allclose(last(text), last.encode(text)[:, 5], atol=1e-6)
    assert mean.dim == mean(text).shape[1] == 24
    last.pool = "mean"
    assert torch.allclose(last(text), last.encode(text)[:, :6].mean(1), atol=1e-5)
    assert build("next_token").encoder.pool == "mean", "END predicts nothing"


def test_an_empty_text_has_finite_features():
    assert torch.isfinite(net()(torch.full((2, 12), PAD))).all()


def test_order_matters():
    text = torch.randint(5, 60, (2, 12), generator=generator(0))
    assert not torch.allclose(net()(text), net()(text.flip(1)))


def test_errors():
    with pytest.raises(UserError, match="12 tokens, not 13"):
        net()(torch.full((1, 13), 7))
    with pytest.raises(UserError, match="vocabulary"):
        encoders.make("tiny_text", (12,))
    with pytest.raises(UserError, match="tiny_causal_text"):
        methods.load("next_token")().build(None, net())


# ---- methods ---------------------------------------------------------------------------------------------------------
def test_predictions_of_words_do_not_look_ahead():
    """The gradient of the loss at one place reaches no later word, and the targets are the next words."""
    method = build("next_token").eval()
    text = torch.randint(5, 60, (2, 24), generator=generator(0))
    with torch.no_grad():
        scores = method.encoder.encode(text[:, :-1]) @ method.encoder.words.weight.T
    expected = torch.nn.functional.cross_entropy(scores.flatten(0, 1), text[:, 1:].flatten())
    assert method({"text": text}, Clock(0, 6, 4))[0].item() == pytest.approx(expected.item(), rel=1e-5)
    embedded = method.encoder.embed(text).detach().requires_grad_()
    method.encoder.embed = lambda ids: embedded[:, : ids.shape[1]]
    (grad,) = torch.autograd.grad(method.encoder.encode(text)[:, 9, 0].sum(), embedded)
    assert grad[:, :10].abs().sum() > 0 and not grad[:, 10:].any()


def test_skip_thought_decoders_see_their_own_words_only():
    method = build("skip_thought").eval()
    t, text = Clock(0, 6, 4), torch.randint(5, 60, (4, 3, 6), generator=generator(0))

    def losses(text):
        h = method.encoder(text[:, 1])
        return [method.decode(d, h, text[:, k])[0].item() for d, k in ((method.before, 0), (method.after, 2))]

    other = text.clone()
    other[:, 2] = text[:, 2].flip(0)
    a, b = losses(text), losses(other)
    assert a[0] == b[0] and a[1] != b[1]
    assert method({"text": text}, t)[0].item() == pytest.approx(sum(a), rel=1e-5)
    # a decoder is told the words so far: the last word of a passage is an input of nothing
    last = text.clone()
    last[:, 2, -1] = 7
    h = method.encoder(text[:, 1])
    words = torch.cat((torch.full((4, 1), START), text[:, 2, :-1]), 1)
    d, _ = method.after(torch.cat((method.words(words), h[:, None].expand(-1, 6, -1)), -1))
    expected = torch.nn.functional.cross_entropy(method.scores(d).flatten(0, 1), last[:, 2].flatten())
    assert losses(last)[1] == pytest.approx(expected.item(), rel=1e-5)


def test_an_empty_passage_has_nothing_to_tell():
    method = build("skip_thought").eval()
    t, text = Clock(0, 6, 4), torch.randint(5, 60, (4, 3, 6), generator=generator(0))
    text[2, 2], text[3, 1:] = PAD, PAD  # the last one of a text; the middle and the last
    loss = method({"text": text}, t)[0]
    h = method.encoder(text[:, 1])
    before, after = (
        method.decode(method.before, h[:3], text[:3, 0])[0],
        method.decode(method.after, h[:2], text[:2, 2])[0],
    )
    assert loss.item() == pytest.approx((before + after).item(), rel=1e-5)


def test_cpc_of_text_is_the_loop():
    method = build("cpc_text").eval()
    text = Passages(count=4, length=6)({"text": torch.randint(5, 60, (3, 24), generator=generator(0))}, generator(0))
    loss, logs = method(text, Clock(0, 6, 4))
    with torch.no_grad():
        z = torch.stack([method.encoder(row) for row in text["text"]]).double()
        c = method.context(z.float())[0].double()
        weights = [guess.weight.double() for guess in method.guess]
    terms = []
    for k, w in enumerate(weights, 1):
        each = []
        for b in range(3):
            for s in range(4 - k):
                scores = [float(z[i, j] @ w @ c[b, s]) for i in range(3) for j in range(4)]
                each.append(math.log(sum(map(math.exp, scores))) - scores[4 * b + s + k])
        terms.append(sum(each) / len(each))
    assert loss.item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    assert sorted(logs) == ["accuracy_1", "accuracy_2"]
    with pytest.raises(UserError, match="raise views"):
        methods.load("cpc_text")(views=Passages(count=3)).build(None, net())


def test_equal_passages_are_no_negatives_and_empty_ones_are_nothing():
    method = build("cpc_text").eval()
    text = torch.randint(5, 60, (4, 3, 6), generator=generator(0))
    text[1, 2], text[2, 1:], text[3, 1] = PAD, PAD, text[0, 2]
    text[0, 2, 4:] = text[3, 1, 4:] = PAD  # shorter, but not empty
    loss, _ = method({"text": text}, Clock(0, 6, 4))
    with torch.no_grad():
        z = torch.stack([method.encoder(row) for row in text])
        c = method.context(z)[0].double()
        weights = [guess.weight.double() for guess in method.guess]
    words = [[tuple(w for w in passage if w) for passage in row] for row in text.tolist()]
    terms = []
    for k, w in enumerate(weights, 1):
        each = []
        for b in range(4):
            for s in range(3 - k):
                own = words[b][s + k]
                if own:
                    score = {(i, j): float(z[i, j].double() @ w @ c[b, s]) for i in range(4) for j in range(3)}
                    others = [v for (i, j), v in score.items() if words[i][j] and words[i][j] != own]
                    right = score[b, s + k]
                    each.append(math.log(sum(map(math.exp, [right, *others]))) - right)
        terms.append(sum(each) / len(each))
    assert loss.item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    nothing = method({"text": torch.full_like(text, PAD)}, Clock(0, 6, 4))[0]
    assert nothing.item() == 0 and all(torch.isfinite(g).all() for g in torch.autograd.grad(
        nothing, list(method.guess.parameters())))  # fmt: skip


def test_passages_of_equal_words_have_equal_fingerprints():
    from nolabel.methods.text.cpc_text import fingerprint

    text = torch.randint(5, 40_000, (5000, 8), generator=generator(0))
    assert len(fingerprint(text).unique()) == 5000 and torch.equal(fingerprint(text), fingerprint(text.clone()))
    assert (
        len({int(fingerprint(torch.tensor(w))) for w in ([5, 6, 0], [6, 5, 0], [5, 6, 5], [5, 0, 0], [0, 0, 0])}) == 5
    )
    assert fingerprint(torch.zeros(8, dtype=torch.long)) == 0


def test_noise_has_words_only():
    assert (Noise(reads=("text",)).stored["text"] > UNKNOWN).all()
