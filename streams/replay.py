"""A pipeline over events at rest: the code that serves a topic, without a broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.clock import Clock
from streams.deadletter import PREFIX, SUFFIX
from streams.processor import Processor
from streams.records import NO_HEADERS, Headers, Outgoing, RecordBatch
from streams.state import KeyedState

PARTITION = 0
OFFSET = PREFIX + "offset"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that can never succeed, and the `error.*` headers that its dead letter would carry.

    `row` is its place among the events of one `Replay.process` call, from 0.
    """

    row: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Replayed:
    """What some events became, in their order; `beside` is what goes to topics beside the output."""

    keys: Sequence[bytes | None] = ()
    values: Sequence[bytes | None] = ()
    beside: list[bytes | None] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Replay:
    """Runs a pipeline over events in order, as if they were one partition of its input from offset 0 on.

    Its state lasts as long as this object. There is no limit on dead letters: nothing is drained into a topic.

    Args:
        pipeline: what `streams.pipelines.PIPELINES` builds.
        clock: processing time; events far ahead of it are poison.
    """

    def __init__(self, pipeline: Any, clock: Clock | None = None) -> None:
        self._pipeline = pipeline
        state = None if pipeline.new_store() is None else KeyedState("replay", pipeline.new_store)
        self._processor: Processor[Any] = Processor(pipeline, state, clock=clock)
        self._ends: Counter[str] = Counter()  # topic -> the next offset

    def follow(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> int:
        """Let the pipeline's table know records of a topic that it follows; in any order, before what asks for them.

        Returns:
            How many it left out, since they are none of that topic's.
        """
        left_out: int = self._pipeline.table.apply(self._records(topic, keys, values))
        return left_out

    def process(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
        timestamps_ms: Sequence[int] | None = None,
    ) -> Replayed:
        """The predictions and dead letters of the next events.

        Args:
            headers: of each event; without them none has any.
            timestamps_ms: of each event's record, since the epoch; without them 0.

        Raises:
            ModelFailing: the model fails for all of them.
        """
        first, beside = self._ends[self._pipeline.input_topic], getattr(self._pipeline, "topics_beside", ())
        batch = self._records(self._pipeline.input_topic, keys, values, headers, timestamps_ms)
        replayed = Replayed()
        for outgoing in self._processor.process([batch]).outboxes[0].outgoing:
            if outgoing.topic == self._pipeline.output_topic:
                replayed.keys, replayed.values = outgoing.keys, outgoing.values
            elif outgoing.topic in beside:
                replayed.beside += outgoing.values
            elif outgoing.topic == self._pipeline.input_topic + SUFFIX:
                replayed.dead_letters += [_dead_letter(outgoing, n, first) for n in range(len(outgoing))]
        return replayed

    def _records(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
        timestamps_ms: Sequence[int] | None = None,
    ) -> RecordBatch:
        """The next records of a topic."""
        first, count = self._ends[topic], len(keys)
        self._ends[topic] += count
        return RecordBatch(
            topic,
            PARTITION,
            list(range(first, first + count)),
            [0] * count if timestamps_ms is None else list(timestamps_ms),
            list(keys),
            list(values),
            [NO_HEADERS] * count if headers is None else list(headers),
        )


def _dead_letter(outgoing: Outgoing, place: int, first: int) -> DeadLetter:
    headers = outgoing.headers_of(place)
    offset = next(int(value or b"") for name, value in headers if name == OFFSET)
    return DeadLetter(offset - first, outgoing.keys[place], outgoing.values[place], headers)
