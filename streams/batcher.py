"""Dynamic batching across partitions, with Triton's semantics on Kafka offsets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from streams.clock import Clock, SystemClock, happens
from streams.settings import Batch


class Sized(Protocol):
    """Something that counts as so many records."""

    def __len__(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


class Batcher(Generic[Item]):
    """Collects record batches and hands out micro-batches, in order of arrival unless told otherwise.

    An idle engine (a waiting `take`) gets what is there. With `max_queue_delay_s` above zero, a micro-batch that is not
    full waits until its *oldest* record batch has waited that long. `put` waits while `max_queue_size` records queue:
    that is the backpressure which pauses the partitions. Items are never split; the fetcher cuts them to
    `max_batch_size`. All calls belong to one event loop.

    Args:
        shed: sees all that waits before a micro-batch is cut, and returns as many items, some of them shorter.
        order: then says in which order they are to be taken: their places, each once.
    """

    def __init__(
        self,
        settings: Batch,
        clock: Clock | None = None,
        shed: Callable[[Sequence[Item]], Sequence[Item]] | None = None,
        order: Callable[[Sequence[Item]], Sequence[int]] | None = None,
    ) -> None:
        self._settings = settings
        self._shed, self._order = shed, order
        self._clock = clock or SystemClock()
        self._queue: deque[tuple[float, Item]] = deque()
        self._records = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def records(self) -> int:
        """Records that wait."""
        return self._records

    async def put(self, item: Item) -> None:
        """Queue a record batch; waits while the queue is full (a lone batch always fits)."""
        while self._queue and self._records + len(item) > self._settings.max_queue_size:
            self._room.clear()
            await self._room.wait()
        self._queue.append((self._clock.monotonic(), item))
        self._records += len(item)
        self._changed.set()

    async def take(self, among: int = 1) -> list[Item]:
        """The next micro-batch: at least one item, at most `max_batch_size` records unless one item is longer.

        Args:
            among: idle engines, which share what waits.
        """
        while True:
            await self._wait_for_change(None)
            if not self._queue:
                continue
            delay = self._settings.max_queue_delay_s
            while delay and self._queue and self._records < self._settings.max_batch_size:
                left = min(since for since, _ in self._queue) + delay - self._clock.monotonic()
                if left <= 0 or not await self._wait_for_change(left):
                    break
            if self._queue:
                return self._cut(among)

    async def _wait_for_change(self, timeout_s: float | None) -> bool:
        if timeout_s is None and self._queue:
            return True
        self._changed.clear()
        return await happens(self._changed, timeout_s)

    def _cut(self, among: int) -> list[Item]:
        if self._shed is not None:
            left = self._shed([item for _, item in self._queue])
            self._queue = deque((since, item) for (since, _), item in zip(self._queue, left, strict=True))
            self._records = sum(map(len, left))
        if self._order is not None and self._records > self._settings.max_batch_size:
            waiting = list(self._queue)
            self._queue = deque(waiting[place] for place in self._order([item for _, item in waiting]))
        items: list[Item] = []
        size, most = 0, min(self._settings.max_batch_size, -(-self._records // among))
        while self._queue and (not items or size + len(self._queue[0][1]) <= most):
            _, item = self._queue.popleft()
            items.append(item)
            size += len(item)
        self._records -= size
        self._room.set()
        return items

    def clear(self) -> list[Item]:
        """Drop everything that waits, and return it."""
        dropped = [item for _, item in self._queue]
        self._queue.clear()
        self._records = 0
        self._room.set()
        return dropped
