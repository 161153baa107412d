"""N processes give what one gives: loss, gradients and state of every method, to float32 rounding."""

import pytest
import torch

from nolabel import methods
from tests.distributed.ranks import one_step, worker
from tests.processes import ranks
from tests.sampling import sample


def pytest_generate_tests(metafunc):
    """Every method on two processes, a part of them that moves on with every commit on four."""
    if "many" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-methods")
        on_four = methods.names() if everything else sample(8, ("byol", "simclr"))
        pairs = [(2, name) for name in methods.names()] + [(4, name) for name in on_four]
        metafunc.parametrize(("world", "name"), pairs)


@pytest.fixture(scope="module")
def pools():
    """The folder of what the ranks of a world found, by its size."""
    return {}


@pytest.fixture
def many(world, pools, request, tmp_path_factory):
    """All methods that were chosen on N processes, which are started once."""
    if world not in pools:
        pools[world] = tmp_path_factory.mktemp(f"ranks{world}")
        calls = [i.callspec.params for i in request.session.items if "many" in i.fixturenames]
        names = sorted({call["name"] for call in calls if call["world"] == world})
        ranks(worker, world, world, str(pools[world]), names)
    return pools[world]


@pytest.fixture(scope="module")
def single():
    """All methods on one process."""
    return {}


def test_ranks_equal_one_process(name, many, single):
    if name not in single:
        single[name] = one_step(name)
    result = torch.load(many / f"{name}.pt", weights_only=True)
    assert "error" not in result, result["error"]
    step, one = result["step"], single[name]
    assert torch.allclose(step["loss"], one["loss"], rtol=1e-5), (step["loss"], one["loss"])
    assert step["grads"].keys() == one["grads"].keys()
    scale = max(float(g.norm()) for g in one["grads"].values())
    for key, grad in one["grads"].items():
        assert float((step["grads"][key] - grad).norm()) <= 1e-5 * scale + 1e-4 * float(grad.norm()), key
    for key, value in one["buffers"].items():
        assert torch.allclose(step["buffers"][key].float(), value.float(), rtol=1e-5, atol=1e-6), key


def test_ranks_stay_equal(name, many):
    result = torch.load(many / f"{name}.pt", weights_only=True)
    assert "error" not in result, result["error"]
    assert result["worst"] == 0.0
