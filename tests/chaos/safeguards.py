"""What keeps the guarantees, switched off one at a time in a worker of a test, so that a checker can be seen to see."""

from __future__ import annotations

from typing import Any

from streams import state, transport
from streams.offsets import Flight, LowWaterMarks
from streams.settings import Kafka


class HighestFinished(LowWaterMarks):
    """Jumps over batches that are still in flight: max(acked) + 1."""

    def finish(self, partition: Any, flight: Flight) -> None:
        super().finish(partition, flight)
        if self.is_alive(partition, flight):
            self._marks[partition] = max(self._marks.get(partition, 0), flight.next_offset)


def commit_the_low_water_mark() -> None:
    transport.LowWaterMarks = HighestFinished  # type: ignore[misc]


def restore_what_is_committed() -> None:
    consumer = state.lone_consumer

    def uncommitted(kafka: Kafka, **options: Any) -> Any:
        return consumer(kafka, **(options | {"isolation_level": "read_uncommitted"}))

    state.lone_consumer = uncommitted


def know_the_changelog_without_gaps() -> None:
    def jump(position: Any, base_offset: int, count: int) -> None:
        position.offset = max(position.offset, base_offset + count)

    state._Position.wrote = jump  # type: ignore[method-assign]


_ALL = {
    each.__name__: each
    for each in (commit_the_low_water_mark, restore_what_is_committed, know_the_changelog_without_gaps)
}


def switch_off(name: str) -> None:
    """Switch off one, in this process."""
    _ALL[name]()
