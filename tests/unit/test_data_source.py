import threading
import time

import pytest
import torch

from nolabel import core
from nolabel.core import UserError
from nolabel.data import ArrayColumn, Blocks, Order, Prefetcher, Source, Split


def numbers(count=103):
    values = torch.arange(count)
    return Split("train", {"image": ArrayColumn(values[:, None]), "label": ArrayColumn(values % 5)}, tuple("abcde"))


def test_rows_are_a_pure_function_of_seed_and_step():
    one, other = Source(numbers(), 10), Source(numbers(), 10)
    assert (
        isinstance(one, core.Source)
        if hasattr(core.Source, "_is_runtime_protocol") and core.Source._is_runtime_protocol
        else True
    )
    forward = [one.at(3, step)["index"] for step in range(25)]
    for step in (24, 3, 11, 0, 3):
        assert torch.equal(other.at(3, step)["index"], forward[step])
    assert one.epoch_steps == 10 and one.info.size == 103 and one.info.shapes == {"image": (1,)}
    epochs = [torch.cat(forward[:10]), torch.cat(forward[10:20])]
    assert all(len(set(rows.tolist())) == 100 for rows in epochs)
    assert not torch.equal(*epochs) and not torch.equal(one.at(4, 0)["index"], forward[0])


@pytest.mark.parametrize("world", [2, 5])
def test_ranks_share_what_one_process_sees(world):
    whole = Source(numbers(), 10)
    ranks = [Source(numbers(), 10, rank=rank, world=world) for rank in range(world)]
    for step in range(12):
        parts = [source.at(1, step)["image"] for source in ranks]
        assert all(len(part) == 10 // world for part in parts)
        assert torch.equal(torch.cat(parts), whole.at(1, step)["image"])


def test_labels_only_when_asked():
    assert set(Source(numbers(), 10).at(0, 0)) == {"image", "index"}
    batch = Source(numbers(), 10, ("image", "label")).at(0, 0)
    assert torch.equal(batch["label"], batch["index"] % 5) and torch.equal(batch["image"][:, 0], batch["index"])


def test_batches_that_do_not_fit():
    for batch, options in ((104, {}), (0, {}), (10, {"rank": 0, "world": 3})):
        with pytest.raises(UserError, match=f"batch of {batch}"):
            Source(numbers(), batch, **options)
    assert Source(numbers(), 103).epoch_steps == 1


def test_local_order():
    blocks = Blocks(torch.arange(1000) // 10, 5)
    rows = Order(1000, blocks).epoch(1, 0)
    assert torch.equal(rows.sort().values, torch.arange(1000))
    windows = rows.view(20, 50)
    assert all(len(set((window // 10).tolist())) == 5 for window in windows), "each window reads five blocks alone"
    assert any(window[:10].max() - window[:10].min() >= 10 for window in windows), "and mixes them"
    assert len(set((windows[0] // 10).tolist()) & {0, 1, 2, 3, 4}) < 5
    assert not torch.equal(Order(1000, blocks).epoch(1, 1), rows)


def test_prefetcher_is_in_order_from_any_step():
    source = Source(numbers(), 10)
    for threads in (1, 3):
        with Prefetcher(source, 7, start=4, depth=3, stop=15, threads=threads) as ahead:
            assert ahead.step == 4
            batches = list(ahead)
            assert ahead.step == 15 and ahead.waited >= 0
        assert len(batches) == 11
        assert all(torch.equal(batch["index"], source.at(7, 4 + i)["index"]) for i, batch in enumerate(batches))


def test_prefetcher_works_ahead_on_another_thread():
    seen = []

    def then(batch, step):
        seen.append((step, threading.current_thread().name))
        return {**batch, "step": step}

    with Prefetcher(Source(numbers(), 10), 0, depth=2, then=then) as ahead:
        assert [next(ahead)["step"], next(ahead)["step"]] == [0, 1]
        time.sleep(0.2)
        assert [step for step, _ in seen] == [0, 1, 2, 3] and threading.current_thread().name not in dict(seen).values()


class Faulty(Source):
    def at(self, seed, step):
        if step == 2:
            raise UserError("the disk is gone")
        return super().at(seed, step)


def test_prefetcher_raises_where_the_batch_would_have_come():
    with Prefetcher(Faulty(numbers(), 10), 0) as ahead:
        next(ahead)
        next(ahead)
        with pytest.raises(UserError, match="disk is gone"):
            next(ahead)
        with pytest.raises(StopIteration):
            next(ahead)


def test_prefetcher_measures_waiting_and_closes_quickly():
    class Slow(Source):
        def at(self, seed, step):
            time.sleep(0.05)
            return super().at(seed, step)

    before = threading.active_count()
    ahead = Prefetcher(Slow(numbers(), 10), 0, depth=8)
    next(ahead)
    assert ahead.waited > 0.03
    start = time.perf_counter()
    ahead.close()
    ahead.close()
    assert time.perf_counter() - start < 0.5 and threading.active_count() == before
    with pytest.raises(StopIteration):
        next(ahead)


def test_interrupt_while_waiting_leaves_no_thread(monkeypatch):
    from concurrent.futures import Future

    before = threading.active_count()
    ahead = Prefetcher(Source(numbers(), 10), 0)

    def interrupt(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(ahead)
    assert threading.active_count() == before
