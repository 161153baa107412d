"""Pointing and walking against loops written from the formulas, and what they give where the answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from nolabel.losses.correspondence import copied, copy_nll, cycle_walk


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def softmax(row):
    top = max(row)
    mass = [math.exp(x - top) for x in row]
    return [m / sum(mass) for m in mass]


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b))


def product(a, b):
    return [[sum(a[i][k] * b[k][j] for k in range(len(b))) for j in range(len(b[0]))] for i in range(len(a))]


def walks(nodes, temperature, dropped=None):
    """Every palindrome P_k of one clip, by loops: (T - 1) lists of lists."""
    unit = [[[float(x) / float(n.norm()) for x in n] for n in frame] for frame in nodes]
    T, N = len(unit), len(unit[0])
    there, back = [], []
    for t in range(T - 1):
        for k, (here, far, steps) in enumerate(((unit[t], unit[t + 1], there), (unit[t + 1], unit[t], back))):
            rows = []
            for i in range(N):
                scores = [dot(here[i], far[j]) / temperature for j in range(N)]
                if dropped is not None and not dropped[t][k][i].all():
                    scores = [-math.inf if dropped[t][k][i][j] else s for j, s in enumerate(scores)]
                rows.append(softmax(scores))
            steps.append(rows)
    found = []
    for k in range(1, T):
        walk = there[0]
        for t in range(1, k):
            walk = product(walk, there[t])
        for t in reversed(range(k)):
            walk = product(walk, back[t])
        found.append(walk)
    return found


@pytest.mark.parametrize("shortest", [1, 2])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_walk_is_that_of_loops(shortest, drop):
    nodes = randn(3, 4, 5, 6)
    dropped = torch.rand(3, 3, 2, 5, 5, generator=torch.Generator().manual_seed(1)) < drop
    dropped[0, 1, 0, 2] = True  # a node that would have no way out keeps them all
    loss, accuracy = cycle_walk(nodes, 0.3, dropped if drop else None, shortest)
    terms, right = [], 0
    for b in range(3):
        for k, walk in enumerate(walks(nodes[b], 0.3, dropped[b] if drop else None), 1):
            for row in walk:
                assert sum(row) == pytest.approx(1, abs=1e-12)
            if k >= shortest:
                terms.append(-sum(math.log(walk[i][i] + 1e-20) for i in range(5)) / 5)
        right += sum(max(range(5), key=walk[i].__getitem__) == i for i in range(5)) / 15
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)
    assert float(accuracy) == pytest.approx(right, abs=1e-6)


def test_steps_back_are_no_transposes():
    """With transposes in their place the value is another: the classic slip would show."""
    nodes = randn(1, 2, 4, 3)
    q = F.normalize(nodes[0], dim=-1)
    there = (q[0] @ q[1].T / 0.2).softmax(1)
    slip = -(there @ there.T).diagonal().log().mean()
    right = -(there @ (q[1] @ q[0].T / 0.2).softmax(1)).diagonal().log().mean()
    loss, _ = cycle_walk(nodes, 0.2)
    assert float(loss) == pytest.approx(float(right), abs=1e-9)
    assert abs(float(loss - slip)) > 0.01


def test_known_walks():
    same = torch.eye(6, dtype=torch.double).expand(2, 4, 6, 6)
    loss, accuracy = cycle_walk(same, 0.01)
    assert float(loss) < 1e-9 and float(accuracy) == 1
    shuffled = torch.stack([torch.eye(6, dtype=torch.double)[torch.randperm(6)] for _ in range(8)]).view(2, 4, 6, 6)
    assert float(cycle_walk(shuffled, 0.01)[0]) < 1e-9  # nodes may move, they only have to come home
    alike = torch.ones(2, 4, 6, 3, dtype=torch.double)
    assert float(cycle_walk(alike, 0.07)[0]) == pytest.approx(math.log(6), abs=1e-9)


def test_walk_has_the_gradient_of_its_values():
    nodes = randn(2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cycle_walk(x, 0.5)[0], nodes)


def test_copies_are_those_of_loops():
    query, key, color = randn(2, 3, 4), randn(2, 5, 4, seed=1), torch.tensor([[0, 1, 2, 1, 0], [2, 2, 0, 1, 1]])
    target = torch.tensor([[0, 1, 2], [1, 1, 0]])
    loss, accuracy = copy_nll(query, key, color, target, 3, 0.7)
    terms, right = [], 0
    for b in range(2):
        for j in range(3):
            share = softmax([dot(query[b, j], key[b, i]) / 0.7 for i in range(5)])
            y = [sum(s for s, c in zip(share, color[b].tolist()) if c == k) for k in range(3)]
            terms.append(-math.log(max(1e-6, y[target[b, j]])))
            right += max(range(3), key=y.__getitem__) == target[b, j]
    assert float(loss) == pytest.approx(sum(terms) / 6, abs=1e-9)
    assert float(accuracy) == pytest.approx(int(right) / 6, abs=1e-6)


def test_known_copies():
    identity = 50 * torch.eye(8, dtype=torch.double)[None]
    value = randn(1, 8, 2)
    torch.testing.assert_close(copied(identity, identity, value), value)
    order = torch.randperm(8)
    query = randn(1, 3, 8)
    torch.testing.assert_close(copied(query, identity[:, order], value[:, order]), copied(query, identity, value))
    color = torch.arange(8)[None] % 4
    nowhere = copy_nll(torch.zeros(1, 8, 5), torch.zeros(1, 8, 5), color, color, 4)[0]
    assert float(nowhere) == pytest.approx(math.log(4), abs=1e-6)
    surely_wrong = copy_nll(identity, identity, color, (color + 1) % 4, 4)[0]
    assert float(surely_wrong) == pytest.approx(-math.log(1e-6), abs=1e-6)
