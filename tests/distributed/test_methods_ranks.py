"""N processes give what one gives: loss, gradients and state of every method, to float32 rounding."""

import pytest
import torch

from nolabel import methods
from tests.distributed.ranks import one_step, worker

pytestmark = pytest.mark.xdist_group("ranks")  # processes are started once for all methods


@pytest.fixture(scope="module", params=[2, 4])
def many(request, tmp_path_factory):
    """All chosen methods on N processes, started once."""
    here = [item for item in request.session.items if item.fspath == request.node.fspath]
    chosen = sorted({item.callspec.params["name"] for item in here})
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    torch.multiprocessing.spawn(worker, (request.param, str(folder), chosen), nprocs=request.param)
    return folder


@pytest.fixture(scope="module")
def single():
    """All methods on one process."""
    return {}


@pytest.mark.parametrize("name", methods.names())
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


@pytest.mark.parametrize("name", methods.names())
def test_ranks_stay_equal(name, many):
    result = torch.load(many / f"{name}.pt", weights_only=True)
    assert "error" not in result, result["error"]
    assert result["worst"] == 0.0
