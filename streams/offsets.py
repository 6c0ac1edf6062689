"""Which offset may be committed: a contiguous low-water mark per partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable


class Flight:
    """One record batch between its delivery and the acknowledgement of everything that it became."""

    __slots__ = ("done", "next_offset", "queue")

    def __init__(self, next_offset: int, queue: deque[Flight]) -> None:
        self.next_offset = next_offset
        self.done = False
        self.queue = queue


class LowWaterMarks:
    """Tracks flights in delivery order; the mark moves over finished ones only as far as they are contiguous.

    Committing the highest finished offset instead would lose every batch that is still in flight below it when
    the process dies. After a `reset` the same offsets are delivered again: flights of before are not alive any
    more, and finishing one of them changes nothing.

    Example:
        >>> marks = LowWaterMarks()
        >>> first, second = marks.begin("p0", 10), marks.begin("p0", 20)
        >>> marks.finish("p0", second); marks.committable("p0")
        >>> marks.finish("p0", first); marks.committable("p0")
        20
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[Flight]] = {}
        self._marks: dict[Hashable, int] = {}

    def begin(self, partition: Hashable, next_offset: int) -> Flight:
        """A batch was delivered; `next_offset` is what may be committed once it and all before it are done."""
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = deque()
        flight = Flight(next_offset, queue)
        queue.append(flight)
        return flight

    def finish(self, partition: Hashable, flight: Flight) -> None:
        """Everything that the batch became is acknowledged."""
        flight.done = True
        if not self.is_alive(partition, flight):
            return
        queue = flight.queue
        while queue and queue[0].done:
            self._marks[partition] = queue.popleft().next_offset

    def is_alive(self, partition: Hashable, flight: Flight) -> bool:
        """False once a reset has handed the flight's offsets to somebody else, or to a later delivery."""
        return self._queues.get(partition) is flight.queue

    def committable(self, partition: Hashable) -> int | None:
        """The low-water mark, or None while nothing was finished since the last reset."""
        return self._marks.get(partition)

    def partitions(self) -> Iterable[Hashable]:
        """Partitions that have a mark."""
        return list(self._marks)

    def in_flight(self, partition: Hashable) -> int:
        """Batches delivered and not yet below the mark."""
        return len(self._queues.get(partition, ()))

    def settled(self) -> bool:
        """Whether no batch at all is in flight."""
        return not any(self._queues.values())

    def reset(self, partitions: Iterable[Hashable] | None = None) -> None:
        """Forget `partitions` (default: all): they are delivered again from their committed offset, or elsewhere."""
        for partition in list(self._queues) if partitions is None else partitions:
            self._queues.pop(partition, None)
            self._marks.pop(partition, None)
