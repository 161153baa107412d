"""The queue against a deque, the bank against a dictionary, look-ups against a loop."""

import math
from collections import deque

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.networks import memory
from nolabel.networks.memory import MemoryBank, Queue, partition


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "batch"), [(8, 4), (7, 3), (5, 5), (4, 9), (10, 1)])
def test_the_queue_holds_the_last_rows_in_order(size: int, batch: int) -> None:
    queue, expected = Queue(size, 6), deque(maxlen=size)
    expected.extend(queue.rows.clone())
    address = queue.rows.data_ptr()
    for step in range(9):
        x = draw(batch, 6, seed=step)
        queue.enqueue(x)
        expected.extend(F.normalize(x, dim=1))
        torch.testing.assert_close(queue.ordered(), torch.stack(list(expected)))
        assert queue.seen.item() == (step + 1) * batch
    assert queue.rows.data_ptr() == address


def test_the_queue_takes_copies_without_gradient_and_resumes() -> None:
    queue, x = Queue(8, 6), draw(3, 6).requires_grad_()
    queue.enqueue(x)
    kept = queue.rows.clone()
    with torch.no_grad():
        x.zero_()
    assert torch.equal(queue.rows, kept) and not queue.rows.requires_grad
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(8))
    other = Queue(8, 6)
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.enqueue(draw(7, 6, seed=2))
    assert torch.equal(queue.ordered(), other.ordered())


@pytest.mark.parametrize("block", [1, 50, 2**21])
def test_nearest_is_the_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(memory.BLOCK, "cpu", block)
    queue, z = Queue(23, 6), draw(9, 6).double().requires_grad_()
    for row, found in zip(z.tolist(), queue.nearest(z)):
        best = min(queue.rows.tolist(), key=lambda k: math.dist([x / math.hypot(*row) for x in row], k))
        assert found.tolist() == best
    assert queue.nearest(z).dtype == torch.double and not queue.nearest(z).requires_grad
    assert queue.seen.item() == 0


def test_a_bf16_queue_is_close() -> None:
    exact, narrow = Queue(500, 32), Queue(500, 32, torch.bfloat16)
    narrow.rows.copy_(exact.rows)
    z = F.normalize(draw(40, 32), dim=1)
    a, b = ((z * q.nearest(z)).sum(1) for q in (exact, narrow))
    assert (a - b).abs().max() < 0.01
    assert narrow.nearest(z).dtype == torch.float32


def test_the_bank_moves_the_rows_of_the_batch_only() -> None:
    bank = MemoryBank(10, 6, momentum=0.7)
    expected = {i: row.clone() for i, row in enumerate(bank.rows)}
    for step in range(4):
        index, x = torch.randperm(10, generator=torch.Generator().manual_seed(step))[:3], draw(3, 6, seed=step)
        bank.update(index, x.requires_grad_())
        for i, v in zip(index.tolist(), x.detach()):
            mixed = 0.7 * expected[i] + 0.3 * v / v.norm()
            expected[i] = mixed / mixed.norm()
        torch.testing.assert_close(bank.rows, torch.stack(list(expected.values())))
    copy = bank(torch.tensor([1, 2]))
    copy.zero_()
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(10))
    assert set(bank.state_dict()) == {"rows"}


def test_other_rows_are_uniform_and_never_the_own() -> None:
    bank, index = MemoryBank(5, 2), torch.tensor([0, 2, 4])
    rng = torch.Generator().manual_seed(0)
    draws = bank.others(index, 4000, rng)
    assert (draws != index[:, None]).all() and draws.min() == 0 and draws.max() == 4
    for own, row in zip(index.tolist(), draws):
        counts = torch.bincount(row, minlength=5)
        assert counts[own] == 0 and (counts[counts > 0] - 1000).abs().max() < 120
    assert not torch.equal(draws, bank.others(index, 4000, rng))


@pytest.mark.parametrize(("dim", "tau"), [(128, 0.07), (64, 0.07), (32, 0.1), (2, 0.5)])
def test_the_partition_is_the_mean_over_random_rows(dim: int, tau: float) -> None:
    torch.manual_seed(0)
    bank, v = MemoryBank(3000, dim), F.normalize(draw(200, dim, seed=1), dim=1)
    assert partition(dim, tau) == pytest.approx(torch.exp(v @ bank.rows.T / tau).mean().item(), rel=0.02)


def test_the_partition_has_its_known_values() -> None:
    assert partition(128, 0.07) == pytest.approx(math.exp(1 / (2 * 128 * 0.07**2)), rel=0.01)  # 2.22 where N(0, 1/128)
    assert partition(3, 0.07) == pytest.approx(math.sinh(1 / 0.07) * 0.07)
    assert partition(2, 0.2) == pytest.approx(torch.special.i0(torch.tensor(5.0, dtype=torch.double)).item())
    assert partition(128, 1e6) == pytest.approx(1)
