import math

import pytest
import torch
import torch.nn.functional as F

from nolabel.evaluate import knn
from nolabel.evaluate.knn import KNN, nearest, top_accuracy


def make(bank=150, queries=70, dim=16, classes=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (bank,), generator=rng)
    y[-1] = classes - 1
    truth = torch.randint(classes, (queries,), generator=rng)
    centres = torch.randn(classes, dim, generator=rng)
    return (
        centres[y] + torch.randn(bank, dim, generator=rng),
        y,
        centres[truth] + torch.randn(queries, dim, generator=rng),
        truth,
    )


def naive_votes(bank, y, queries, k, temperature):
    """The formula of the paper, one pair at a time."""
    classes = int(y.max()) + 1
    votes = torch.zeros(len(queries), classes, dtype=torch.float64)
    for i, q in enumerate(queries.double()):
        s = [float(q @ g / (q.norm() * g.norm())) for g in bank.double()]
        for j in sorted(range(len(bank)), key=lambda j: -s[j])[: min(k, len(bank))]:
            votes[i, y[j]] += math.exp(s[j] / temperature)
    return votes


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (50, 1.0), (1000, 0.1)])
def test_votes_equal_the_naive_double_loop(k, temperature):
    bank, y, queries, _ = make()
    ours = KNN(k, temperature).votes(bank, y, queries)
    reference = naive_votes(bank, y, queries, k, temperature)
    torch.testing.assert_close(ours / ours.sum(1, True), reference / reference.sum(1, True), rtol=1e-4, atol=1e-7)


def test_ragged_blocks_of_queries_and_bank_change_nothing(monkeypatch):
    bank, _, queries, _ = make()
    whole = nearest(bank, queries, 20, bf16=False)
    monkeypatch.setattr(knn, "_QUERIES", 32)  # 70 = 32 + 32 + 6
    monkeypatch.setattr(knn, "_ROWS", 64)  # 150 = 64 + 64 + 22
    blocked = nearest(bank, queries, 20, bf16=False)
    torch.testing.assert_close(blocked[0], whole[0])
    assert torch.equal(blocked[1], whole[1])


def test_a_last_block_smaller_than_k(monkeypatch):
    bank, _, queries, _ = make(bank=130)
    whole = nearest(bank, queries, 20, bf16=False)
    monkeypatch.setattr(knn, "_ROWS", 64)  # 130 = 64 + 64 + 2
    assert torch.equal(nearest(bank, queries, 20, bf16=False)[1], whole[1])


@pytest.mark.parametrize("kind", ["gaussian", "relu", "far from the origin"])
@pytest.mark.parametrize("k", [1, 20, 100])
def test_bf16_with_ranking_in_float32_gives_the_float32_answer(kind, k):
    rng = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(12_001, 64, generator=rng), torch.randn(300, 64, generator=rng)
    if kind == "relu":
        bank, queries = bank.relu(), queries.relu()
    if kind == "far from the origin":
        bank, queries = bank + 3, queries + 3
    s, rows = nearest(bank, queries, k, bf16=True)
    exact_s, exact_rows = nearest(bank, queries, k, bf16=False)
    torch.testing.assert_close(s, exact_s, rtol=0, atol=1e-6)
    # rows may differ only where two similarities are equal to float32 rounding
    reference = torch.einsum(
        "qd,qkd->qk", F.normalize(queries.double(), dim=1), F.normalize(bank.double(), dim=1)[rows]
    )
    torch.testing.assert_close(reference, exact_s.double(), rtol=0, atol=1e-6)
    assert (rows.sort(1).values == exact_rows.sort(1).values).all(1).double().mean() > 0.99


def test_the_candidate_search_is_taken_and_hands_dense_features_to_float32(monkeypatch):
    searched = []
    exact = knn._Block._exact
    monkeypatch.setattr(knn._Block, "_exact", lambda self, q: searched.append(len(q)) or exact(self, q))
    rng = torch.Generator().manual_seed(2)
    bank, queries = torch.randn(20_000, 64, generator=rng), torch.randn(512, 64, generator=rng)
    nearest(bank, queries, 20, bf16=True)
    assert sum(searched) < 50
    searched.clear()
    # 500 rows within the rounding of bfloat16: every certificate must fail, and only the first block pays twice
    collapsed = torch.randn(40, 64, generator=rng).repeat(500, 1)
    collapsed += 1e-5 * torch.randn(collapsed.shape, generator=rng)
    s, _ = nearest(collapsed, queries, 20, bf16=True)
    assert sum(searched) == 512
    torch.testing.assert_close(s, nearest(collapsed, queries, 20, bf16=False)[0], rtol=0, atol=1e-6)


def test_infinite_temperature_is_the_majority_vote():
    bank, y, queries, _ = make()
    _, rows = nearest(bank, queries, 15)
    counts = F.one_hot(y[rows], 7).sum(1)
    votes = KNN(15, math.inf).votes(bank, y, queries)
    assert torch.equal(votes, counts.double())


def test_k_1_is_the_nearest_neighbour():
    bank, y, queries, truth = make()
    cosine = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    expected = 100 * (y[cosine.argmax(1)] == truth).double().mean().item()
    assert KNN(1).accuracy(bank, y, queries, truth)["top1"] == pytest.approx(expected)


def test_the_order_of_the_bank_changes_nothing():
    bank, y, queries, truth = make()
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(3))
    for protocol in (KNN(), KNN(11, math.inf)):
        assert protocol.accuracy(bank, y, queries, truth) == protocol.accuracy(bank[order], y[order], queries, truth)


def test_a_bank_smaller_than_k_votes_as_a_whole():
    bank, y, queries, truth = make(bank=9)
    assert KNN(200).accuracy(bank, y, queries, truth) == KNN(9).accuracy(bank, y, queries, truth)


def test_classes_are_counted_in_the_training_labels():
    bank, y, queries, truth = make()
    assert KNN().votes(bank, y, queries).shape == (70, 7)
    missing = torch.full_like(truth, 9)  # never seen in training
    assert KNN().accuracy(bank, y, queries, missing) == {"top1": 0.0, "top5": 0.0}
    few = truth % 2  # the test split holds two of the classes
    assert "top5" in KNN().accuracy(bank, y, queries, few)


def test_ties_go_to_the_lower_class():
    score = torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    assert top_accuracy(score, torch.tensor([1, 0])) == {"top1": 100.0}
    assert top_accuracy(score, torch.tensor([2, 1])) == {"top1": 0.0}


def test_small_temperature_stays_finite():
    bank, y, queries, truth = make()
    sharp = KNN(20, 1e-4)
    assert sharp.votes(bank, y, queries).isfinite().all()
    assert sharp.accuracy(bank, y, queries, truth) == KNN(1).accuracy(bank, y, queries, truth) | {
        "top5": sharp.accuracy(bank, y, queries, truth)["top5"]
    }


def test_scores_that_are_not_numbers_are_never_right():
    bank, y, queries, truth = make()
    queries[:] = math.nan
    assert KNN().accuracy(bank, y, queries, truth) == {"top1": 0.0, "top5": 0.0}


def test_vectors_of_zero_do_not_make_nan():
    bank, y, queries, truth = make()
    bank[5], queries[0] = 0, 0
    assert math.isfinite(KNN().accuracy(bank, y, queries, truth)["top1"])
