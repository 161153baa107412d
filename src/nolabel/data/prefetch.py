"""Batches made ahead of time on background threads, in order."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from nolabel.core import Batch, Source


class Prefetcher(Iterator[Batch]):
    """The batches of `source` from step `start` on, up to `depth` of them made ahead by `threads` threads.

    `then(batch, step)` runs on the thread too (pinned memory, host views); what it returns, unless None, is the batch.
    Ends before step `stop`, if given. An exception of source or `then` is raised where the consumer would have got
    that batch. Use it in a `with`, or call `close`, which waits at most for the batch being made.
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        start: int = 0,
        depth: int = 2,
        then: Callable[[Batch, int], Any] | None = None,
        stop: int | None = None,
        threads: int = 1,
    ) -> None:
        self.source, self.seed, self.step, self.stop, self.then = source, seed, start, stop, then
        self.waited = 0.0
        """seconds the consumer has waited for batches"""
        self._ahead: deque[Future[Batch]] = deque()
        self._pool = ThreadPoolExecutor(threads, "prefetch")
        self._next, self._depth, self._closed = start, depth, False
        self._fill()

    def _make(self, step: int) -> Batch:
        batch = self.source.at(self.seed, step)
        after = self.then(batch, step) if self.then else None
        return batch if after is None else after

    def _fill(self) -> None:
        while len(self._ahead) < self._depth and (self.stop is None or self._next < self.stop):
            self._ahead.append(self._pool.submit(self._make, self._next))
            self._next += 1

    def __next__(self) -> Batch:
        if self._closed or not self._ahead:
            raise StopIteration
        start = time.perf_counter()
        try:
            batch = self._ahead.popleft().result()
        except BaseException:  # Ctrl-C while waiting included: leave no thread at work
            self.close()
            raise
        self.waited += time.perf_counter() - start
        self.step += 1
        self._fill()
        return batch

    def close(self) -> None:
        """Drop what was made ahead and end the threads."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
