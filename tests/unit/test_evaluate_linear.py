import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from nolabel.evaluate.linear import Linear, Probe


@pytest.fixture(scope="module")
def toy():
    x, y = make_classification(700, 20, n_informative=10, n_classes=6, random_state=0)
    # badly scaled on purpose: the probe standardises
    return torch.tensor(x).float() * torch.logspace(-2, 2, 20) + 3, torch.tensor(y)


@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0])
def test_probe_equals_logistic_regression_of_scikit_learn(toy, c):
    x, y = toy
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double()
    reference = LogisticRegression(C=c, max_iter=10_000, tol=1e-9).fit(z.numpy(), y.numpy())
    probe = Probe.fit(x, y, [c], 300)[0]
    expected = torch.tensor(reference.predict_proba(z.numpy())).float()
    torch.testing.assert_close(probe(x).softmax(1), expected, rtol=0, atol=1e-3)


def test_gradient_vanishes_along_the_whole_path(toy):
    x, y = toy
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double()
    grid = [1e-4, 1e-2, 1.0, 100.0]
    for c, probe in zip(grid, Probe.fit(x, y, grid, 300)):
        weight = (probe.weight_CD.double() * x.std(0, correction=0)).requires_grad_()
        bias = (probe.bias_C.double() + probe.weight_CD.double() @ x.mean(0).double()).requires_grad_()
        loss = torch.nn.functional.cross_entropy(z @ weight.T + bias, y) + weight.square().sum() / (2 * c * len(y))
        loss.backward()
        largest = max(weight.grad.abs().max().item(), bias.grad.abs().max().item())
        assert largest < 1e-5, c


def test_a_warm_start_ends_where_a_cold_one_does(toy):
    x, y = toy
    cold = Probe.fit(x, y, [1.0], 300)[0]
    start = Probe.fit(x[:500], y[:500], [0.1], 300)[0]
    warm = Probe.fit(x, y, [1.0], 300, start)[0]
    torch.testing.assert_close(warm(x).softmax(1), cold(x).softmax(1), rtol=0, atol=1e-3)


def test_few_samples_of_many_features(toy):
    """As many words as 3,000 and 18 texts: those that never occur have no axis, and the answer is scikit-learn's."""
    y = torch.arange(18) % 6
    x = torch.zeros(18, 3000)
    x[:, :40] = torch.rand(18, 40, generator=torch.Generator().manual_seed(0)) + 0.5 * torch.eye(6, 40)[y]
    z = ((x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-9)).double()
    reference = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-9).fit(z.numpy(), y.numpy())
    expected = torch.tensor(reference.predict_proba(z.numpy())).float()
    probe = Probe.fit(x, y, [0.1], 300)[0]
    torch.testing.assert_close(probe(x).softmax(1), expected, rtol=0, atol=1e-3)
    warm = Probe.fit(x, y, [0.1], 300, Probe.fit(x[:9], y[:9], [0.1], 300, classes=6)[0])[0]
    torch.testing.assert_close(warm(x).softmax(1), expected, rtol=0, atol=1e-3)


def test_the_test_split_chooses_nothing(toy):
    x, y = toy
    train, test = slice(0, 500), slice(500, 700)
    straight = Linear().accuracy(x[train], y[train], x[test], y[test])
    permuted = Linear().accuracy(x[train], y[train], x[test].flip(0), (y[test] + 1) % 6)
    assert straight["c"] == permuted["c"]
    assert straight["top1"] > 40 > permuted["top1"]


def test_the_choice_is_deterministic_and_a_function_of_the_seed(toy):
    x, y = toy
    assert Linear().choose(x, y, 1)[0] == Linear().choose(x, y, 1)[0]
    first, second = Linear().choose(x, y, 1)[1], Linear().choose(x, y, 2)[1]
    assert not torch.equal(first.weight_CD, second.weight_CD)


def test_the_edge_of_the_grid_is_reported(toy):
    x, y = toy
    inside = Linear(grid=(1e-7, 1e-1, 1e7)).accuracy(x, y, x, y)
    outside = Linear(grid=(1e-6, 1e-4)).accuracy(x, y, x, y)
    assert inside["at_edge"] == 0 and outside["at_edge"] == 1


def test_constant_features_and_classes_missing_from_the_fit_do_no_harm(toy):
    x, y = toy
    x = torch.cat((x, torch.full((len(x), 3), 7.0)), 1)
    y = y.clone()
    y[0] = 8  # one sample of a class; its neighbours in number do not occur
    result = Linear().accuracy(x, y, x, y)
    assert result["top1"] > 45


def test_two_classes_have_no_top5(toy):
    x, y = toy
    assert set(Linear().accuracy(x, y % 2, x, y % 2)) == {"top1", "c", "at_edge"}
