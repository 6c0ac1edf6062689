"""The two requests that a record's way is made of, as bytes: what is fetched, and what is produced.

aiokafka builds every request of generic fields, and takes every answer apart with them: for a poll of a few records
that is more than the records themselves cost. A connection of aiokafka's sends these as it sends its own.

References:
    Apache Kafka: Protocol Guide, Fetch (versions 4 to 11) and Produce (versions 3 to 7).
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, ClassVar, NamedTuple, Self

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest

SESSIONS_FROM_VERSION = 7
_START_FROM_VERSION = 5  # of a partition's log, in fetches and in their answers
_NOBODY, _UNKNOWN = -1, -1

_INT16, _INT32, _INT32_TWICE = (struct.Struct(f">{form}") for form in ("h", "i", "ii"))
_HEADER = struct.Struct(">hhih")
_FETCH = struct.Struct(">iiiib")
_ANSWERED = struct.Struct(">hi")  # error, session
_FETCHED = struct.Struct(">ihqq")  # partition, error, high watermark, last stable offset
_ABORTED = struct.Struct(">qq")
_PRODUCE = struct.Struct(">hi")
_PRODUCED = struct.Struct(">ihqq")  # partition, error, offset, timestamp

Place = tuple[str, int]
"""Topic and partition."""
Wanted = Mapping[Place, tuple[int, int]]
"""Partitions, and of each the offset that is fetched from, and how many bytes at most."""


class FetchedPartition(NamedTuple):
    """What an answer says of a partition; `blocks` are its record batches, the last perhaps cut off."""

    place: Place
    error: int
    highwater: int
    stable: int
    aborted: Sequence[tuple[int, int]]
    blocks: bytes


class Fetched(NamedTuple):
    """The answer to a fetch; `session` is 0 where the broker keeps none; one that is throttled holds nothing."""

    error: int
    session: int
    partitions: Sequence[FetchedPartition]
    throttled_ms: int = 0


class Produced(NamedTuple):
    """The answer to a produce request, as aiokafka's producer takes it."""

    API_VERSION: int
    topics: Sequence[tuple[str, Sequence[tuple[int, ...]]]]


class Exchange(ABC):
    """A request and how its answer is read: what aiokafka's connection asks of both."""

    API_KEY: ClassVar[int]
    VERSIONS: ClassVar[tuple[int, int]]
    """The first and the last that are known here; none of them has tagged fields."""
    version: int

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """The same, in the newest version that both sides know.

        Raises:
            IncompatibleBrokerVersion: there is none.
        """
        oldest, newest = versions.get(self.API_KEY, (0, -1))
        self.version = min(newest, self.VERSIONS[1])
        if self.version < max(oldest, self.VERSIONS[0]):
            raise IncompatibleBrokerVersion(
                f"{type(self).__name__.lower()} requests: expected a broker that knows one of the versions "
                f"{self.VERSIONS[0]} to {self.VERSIONS[1]}, got {oldest} to {newest}"
            )
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Header:
        return _Header(self.API_KEY, self.version, correlation_id, client_id)

    def parse_response_header(self, answer: BytesIO) -> _AnswerHeader:
        return _AnswerHeader(*_INT32.unpack(answer.read(4)))

    @property
    def RESPONSE_TYPE(self) -> Self:  # noqa: N802 - aiokafka's name
        return self

    @abstractmethod
    def encode(self) -> bytes:
        """What follows the header."""

    @abstractmethod
    def decode(self, answer: BytesIO) -> Any:
        """The answer, of which the header has been read."""


class _Header(NamedTuple):
    key: int
    version: int
    correlation_id: int
    client_id: str

    def encode(self) -> bytes:
        client = self.client_id.encode()
        return _HEADER.pack(self.key, self.version, self.correlation_id, len(client)) + client


class _AnswerHeader(NamedTuple):
    correlation_id: int


class Fetch(Exchange):
    """A fetch by a consumer.

    Args:
        whole: aiokafka's, of everything that is wanted.
        session: its id and its epoch.
        changed: what a broker that keeps the session does not know yet; everything else is fetched as before.
        gone: what it is to forget.
    """

    API_KEY, VERSIONS = FetchRequest.API_KEY, (4, 11)

    def __init__(
        self, whole: FetchRequest, session: tuple[int, int], changed: Wanted, gone: Collection[Place], wanted: Wanted
    ) -> None:
        self._whole, self._session, self._changed, self._gone, self._wanted = whole, session, changed, gone, wanted

    def encode(self) -> bytes:
        whole, version = self._whole, self.version
        parts = [
            _FETCH.pack(_NOBODY, whole._max_wait_ms, whole._min_bytes, whole._max_bytes, whole._isolation_level),
        ]
        kept = version >= SESSIONS_FROM_VERSION
        if kept:
            parts.append(_INT32_TWICE.pack(*self._session))
        form, fill = _form(version)
        topics = defaultdict(list)
        for (topic, partition), (offset, most) in (self._changed if kept else self._wanted).items():
            topics[topic].append(form.pack(partition, *fill[0], offset, *fill[1], most))
        parts += _listed(topics)
        if kept:
            forgotten = defaultdict(list)
            for topic, partition in self._gone:
                forgotten[topic].append(_INT32.pack(partition))
            parts += _listed(forgotten)
        if version >= 11:
            parts.append(_text(whole._rack_id))
        return b"".join(parts)

    def decode(self, answer: BytesIO) -> Fetched:
        content, version, at = answer.getvalue(), self.version, answer.tell()
        (throttled_ms,) = _INT32.unpack_from(content, at)
        at += _INT32.size
        error = session = 0
        if version >= SESSIONS_FROM_VERSION:
            error, session = _ANSWERED.unpack_from(content, at)
            at += _ANSWERED.size
        partitions = []
        topics, at = _count(content, at)
        for _ in range(topics):
            topic, at = _string(content, at)
            count, at = _count(content, at)
            for _ in range(count):
                partition, at = _partition(content, at, topic, version)
                partitions.append(partition)
        return Fetched(error, session, partitions, throttled_ms)


def _partition(content: bytes, at: int, topic: str, version: int) -> tuple[FetchedPartition, int]:
    number, error, highwater, stable = _FETCHED.unpack_from(content, at)
    at += _FETCHED.size
    if version >= _START_FROM_VERSION:
        at += 8
    count, at = _count(content, at)
    aborted = [_ABORTED.unpack_from(content, at + each * _ABORTED.size) for each in range(count)]
    at += count * _ABORTED.size
    if version >= 11:
        at += 4  # the replica that it would rather be read from
    size, at = _count(content, at)
    if at + size > len(content):
        raise ValueError(
            f"reading what was fetched of {topic}[{number}]: expected {size} bytes, got {len(content) - at}"
        )
    return FetchedPartition((topic, number), error, highwater, stable, aborted, content[at : at + size]), at + size


@lru_cache
def _form(version: int) -> tuple[struct.Struct, tuple[tuple[int, ...], tuple[int, ...]]]:
    """How a partition is asked for; and what stands before the offset, the leader's epoch, and after it, the log's
    start, neither of which a consumer tells."""
    epoch = version >= 9
    start = version >= _START_FROM_VERSION
    form = struct.Struct(">i" + "i" * epoch + "q" + "q" * start + "i")
    return form, ((_UNKNOWN,) * epoch, (_UNKNOWN,) * start)


class Produce(Exchange):
    """A produce request: aiokafka's, one that is to be acknowledged."""

    API_KEY, VERSIONS = ProduceRequest.API_KEY, (3, 7)

    def __init__(self, whole: ProduceRequest) -> None:
        self._whole = whole

    def encode(self) -> bytes:
        whole = self._whole
        parts = [_text(whole._transactional_id), _PRODUCE.pack(whole._required_acks, whole._timeout)]
        parts.append(_INT32.pack(len(whole._topics)))
        for topic, partitions in whole._topics:
            parts += [_text(topic), _INT32.pack(len(partitions))]
            for partition, records in partitions:
                parts += [_INT32_TWICE.pack(partition, len(records)), records]
        return b"".join(parts)

    def decode(self, answer: BytesIO) -> Produced:
        content, at = answer.getvalue(), answer.tell()
        size = _PRODUCED.size
        log_start = self.version >= _START_FROM_VERSION
        topics = []
        count, at = _count(content, at)
        for _ in range(count):
            topic, at = _string(content, at)
            partitions, at = _count(content, at)
            written = []
            for _ in range(partitions):
                entry = _PRODUCED.unpack_from(content, at)
                at += size
                if log_start:
                    entry += struct.unpack_from(">q", content, at)
                    at += 8
                written.append(entry)
            topics.append((topic, written))
        return Produced(self.version, topics)


def _listed(topics: Mapping[str, Sequence[bytes]]) -> Iterable[bytes]:
    parts = [_INT32.pack(len(topics))]
    for topic, entries in topics.items():
        parts += [_text(topic), _INT32.pack(len(entries)), *entries]
    return parts


@lru_cache(1024)
def _text(text: str | None) -> bytes:
    if text is None:
        return _INT16.pack(-1)
    encoded = text.encode()
    return _INT16.pack(len(encoded)) + encoded


def _string(content: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(content[at : at + 2], "big")
    return content[at + 2 : end].decode(), end


def _count(content: bytes, at: int) -> tuple[int, int]:
    """A number of entries or of bytes; none at all stands as -1."""
    return max(_INT32.unpack_from(content, at)[0], 0), at + 4
