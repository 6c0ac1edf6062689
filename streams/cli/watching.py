"""Detections of a topic and the frames that they were made from, brought together for a film."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from streams.cli.filming import Detections, Filming
from streams.errors import TopicError
from streams.frame_reader import FrameReader

if TYPE_CHECKING:
    from streams.records import Headers, RecordBatch
    from streams.settings import Kafka

AT_ONCE = 16  # frames that are held in memory
ENOUGH = 100  # records of which none is a detection: there will be none


class Watching:
    """Fetches each detection's frame, as its `id` header says, and adds both to a film.

    What is no detection, or whose frame is gone or cannot be decoded, is left out and counted.

    Args:
        output: the topic that the settings have detections on.

    Raises (showing):
        TopicError: the topic of the frames is not there; the topic at hand holds no detections. What the film raises.
    """

    def __init__(self, kafka: Kafka, filming: Filming, output: str) -> None:
        self._kafka, self._filming, self._output = kafka, filming, output
        self._seen = self._found = 0
        self._decoder = msgspec.json.Decoder(Detections)
        self._readers: dict[str, FrameReader] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Watching:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def show(self, batch: RecordBatch, rows: list[int], stop: asyncio.Event) -> None:
        """Add those rows, in order, unless `stop` is set."""
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            if stop.is_set():
                return
            found = [(row, each) for row in some if (each := self._decode(batch.values[row])) is not None]
            self._seen += len(some)
            self._found += len(found)
            if self._seen >= ENOUGH:
                self.check(batch.topic)
            known = [(row, each, place) for row, each in found if (place := _place(batch.headers[row])) is not None]
            self._filming.left_out += len(some) - len(known)
            frames = await self._frames([place for *_, place in known])
            for row, detections, place in known:
                await asyncio.to_thread(self._add, batch, row, detections, frames.get(place))

    def check(self, topic: str) -> None:
        """See whether there was a detection among what was shown, if anything was.

        Raises:
            TopicError: there was none.
        """
        if self._seen and not self._found:
            raise TopicError(
                f"drawing {topic}: expected detections, got {self._seen} records of which none is one; subscribe to "
                f"what vision writes them to, {self._output} by the settings"
            )

    def _decode(self, value: bytes | None) -> Detections | None:
        try:
            return self._decoder.decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    async def _frames(self, places: list[_Place]) -> dict[_Place, bytes]:
        wanted: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        for topic, partition, offset in places:
            wanted[topic, partition].add(offset)
        found: dict[_Place, bytes] = {}
        for (topic, partition), offsets in wanted.items():
            values = await (await self._reader(topic)).read(partition, offsets)
            found |= {(topic, partition, offset): value for offset, value in values.items()}
        return found

    async def _reader(self, topic: str) -> FrameReader:
        if topic not in self._readers:
            self._readers[topic] = await self._stack.enter_async_context(FrameReader(self._kafka, topic))
        return self._readers[topic]

    def _add(self, batch: RecordBatch, row: int, detections: Detections, frame: bytes | None) -> None:
        if frame is None:
            self._filming.left_out += 1
            return
        camera = (batch.keys[row] or b"").decode(errors="replace")
        self._filming.add(camera, frame, detections, batch.timestamps_ms[row])


_Place = tuple[str, int, int]
"""Topic, partition and offset."""


def _place(headers: Headers) -> _Place | None:
    """What an `id` header `topic/partition/offset` names; those of events have one part more."""
    text = next((value for name, value in headers if name == "id"), None) or b""
    topic, *numbers = text.decode(errors="replace").split("/")
    if len(numbers) != 2 or not all(number.isdecimal() and len(number) < 19 for number in numbers):
        return None
    return topic, int(numbers[0]), int(numbers[1])
