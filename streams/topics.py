"""Which topics a pipeline needs, how they are created, and whether what is there fits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from streams.acls import FORBIDDEN, lacking
from streams.deadletter import SUFFIX
from streams.errors import BrokerUnavailable, TopicError
from streams.settings import Kafka

# A zombie's late write must not win over its successor's by compaction before a restore could tell them apart.
MIN_COMPACTION_LAG_MS = 60 * 60 * 1000
CHANGELOG = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(MIN_COMPACTION_LAG_MS),
}
# What a table looks back on, and a week to spare: its log, and topics that it follows.
TABLE = {"cleanup.policy": "delete", "retention.ms": str(45 * 24 * 60 * 60 * 1000)}
VISIBLE_TIMEOUT_S = 10.0
VISIBLE_POLL_S = 0.05
COORDINATOR_TIMEOUT_S = 10.0
COORDINATOR_POLL_S = 0.2
# A dead letter is the input record and its error headers: it must fit where the input did.
DEAD_LETTER = {"max.message.bytes": str(4 << 20)}
DEAD_LETTER_ROOM = 1 << 20


T = TypeVar("T")


@dataclass(frozen=True)
class Topic:
    """A topic as a pipeline wants it."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    copartitioned: bool = True  # what a record becomes goes to the number that it came from
    partitions: int | None = None  # how many a new one gets; None: as many as the pipeline's input


def changelog_topic(group: str) -> str:
    """The changelog of a consumer group's state."""
    return f"{group}.changelog"


def table_topic(group: str) -> str:
    """The log of a consumer group's table."""
    return f"{group}.table"


def pipeline_topics(
    input_topic: str,
    output_topic: str,
    group: str,
    *,
    state: bool,
    logged: bool = False,
    followed: Sequence[str] = (),
    copartitioned: bool = False,
    beside: Sequence[str] = (),
    max_message_bytes: int = 0,
) -> list[Topic]:
    """Input first, then what the pipeline writes, and what else it reads.

    Args:
        state: whether there is a changelog.
        logged: whether there is a table with a log.
        followed: what else the table reads.
        copartitioned: whether that must have as many partitions as the input, too.
        beside: what else the pipeline writes.
        max_message_bytes: the longest record of a new input topic; 0: the broker's own limit.
    """
    dead_letter = DEAD_LETTER
    source: Mapping[str, str] = {}
    if max_message_bytes:
        source = {"max.message.bytes": str(max_message_bytes)}
        dead_letter = {"max.message.bytes": str(max_message_bytes + DEAD_LETTER_ROOM)}
    topics = [
        Topic(input_topic, source),
        *map(Topic, (output_topic, *beside)),
        Topic(input_topic + SUFFIX, dead_letter),
    ]
    if state:
        topics.append(Topic(changelog_topic(group), CHANGELOG))
    if logged:
        topics.append(Topic(table_topic(group), TABLE))
    return topics + [Topic(name, TABLE, copartitioned) for name in followed]


class Admin:
    """A short-lived connection for looking at topics and creating them.

    Raises (all methods and entering):
        BrokerUnavailable: nobody answers at the bootstrap servers, or they refuse us.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._client = AIOKafkaAdminClient(**kafka.client_options())

    async def __aenter__(self) -> Admin:
        try:
            await asyncio.wait_for(self._client.start(), self._kafka.request_timeout_s)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._client.close()
            raise unavailable(self._kafka, error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def partitions(self) -> dict[str, int]:
        """Topic name -> number of partitions."""
        try:
            return {each["topic"]: len(each["partitions"]) for each in await self._client.describe_topics()}
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error

    async def create(self, topic: Topic, partitions: int, replication: int | None = None) -> int:
        """Create a topic and wait until clients see it; one that is there, perhaps since a moment ago, stays as it is.

        Args:
            partitions: of a topic that does not say itself how many a new one gets.
            replication: how many copies; without it, the broker's default.

        Returns:
            The partitions that were asked for.

        Raises:
            TopicError: the broker refuses it, or it does not appear.
        """
        count = topic.partitions or partitions
        new = NewTopic(topic.name, count, replication or 1, topic_configs=dict(topic.config))
        if replication is None:
            new.replication_factor = -1  # the broker's default, which the constructor does not allow
        try:
            response = await self._client.create_topics([new])
        except KafkaError as error:
            raise TopicError(f"creating topic {topic.name!r}: {error!r}") from error
        exists = False
        for name, code, *rest in response.topic_errors:
            exists = code == TopicAlreadyExistsError.errno
            if code and not exists:
                kind = for_code(code)
                said = (rest[0] if rest else None) or kind.__name__
                hint = f"; {lacking('CREATE')}" if issubclass(kind, FORBIDDEN) else ""
                raise TopicError(f"creating topic {name!r}: {said}{hint}")
        if not await self._until(lambda there: topic.name in there):
            if exists:
                raise TopicError(f"topic {topic.name!r} is there, but hidden: {lacking('DESCRIBE')}")
            raise TopicError(f"creating topic {topic.name!r}: it did not appear in {VISIBLE_TIMEOUT_S:g} s")
        return count

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics.

        Raises:
            TopicError: the broker refuses to delete one, or they do not disappear; others may be gone.
        """
        try:
            response = await self._client.delete_topics(list(names))
        except KafkaError as error:
            raise TopicError(f"deleting {', '.join(names)}: {error!r}") from error
        for name, code in response.topic_error_codes:
            if code:
                raise TopicError(f"deleting topic {name!r}: {for_code(code).__name__}")
        if not await self._until(lambda there: there.keys().isdisjoint(names)):
            raise TopicError(f"deleting {', '.join(names)}: still there after {VISIBLE_TIMEOUT_S:g} s")

    async def _until(self, seen: Callable[[dict[str, int]], bool]) -> bool:
        """The broker answers before its metadata shows the change. False: not in time."""
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        while not seen(await self.partitions()):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(VISIBLE_POLL_S)
        return True


def absent(kafka: Kafka, name: str) -> str:
    """What to say of a topic that a client does not see."""
    return f"topic {name!r} does not exist at {kafka.bootstrap_servers}, or is hidden by ACLs"


def unavailable(kafka: Kafka, error: BaseException) -> BrokerUnavailable:
    """What to say when no broker answers."""
    if isinstance(error, (KafkaConnectionError, TimeoutError)):
        cause = (
            f"nobody answers as Kafka over {kafka.security_protocol}"  # who answers otherwise, the client cannot tell
        )
    else:
        cause = str(error) or type(error).__name__
    if isinstance(error, (KafkaConnectionError, TimeoutError, OSError)):
        hint = (
            "start one with `headrace broker start`, or set HEADRACE_KAFKA__BOOTSTRAP_SERVERS, and "
            "HEADRACE_KAFKA__SECURITY_PROTOCOL where the cluster wants another"
        )
    elif isinstance(error, FORBIDDEN):
        hint = "the cluster's ACLs do not let this client do it"
    else:
        hint = "check the kafka.* settings"
    return BrokerUnavailable(f"connecting to Kafka at {kafka.bootstrap_servers!r}: {cause}; {hint}")


async def ask_coordinator(kafka: Kafka, question: Callable[[], Awaitable[T]]) -> T:
    """The answer of a group's coordinator: the first question after a cluster's start makes it create what it needs.

    Raises:
        BrokerUnavailable: nobody answers.
    """
    deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
    while True:
        try:
            return await question()
        except GroupCoordinatorNotAvailableError as error:
            if time.monotonic() >= deadline:
                raise unavailable(kafka, error) from error
            await asyncio.sleep(COORDINATOR_POLL_S)
        except KafkaError as error:
            raise unavailable(kafka, error) from error


async def find(kafka: Kafka, topic: Topic, partitions: int | None) -> None:
    """Make sure that a topic is there before something is written to it.

    Args:
        partitions: of a new one, where it may be created.

    Raises:
        TopicError: it is not there and may not be created, or cannot be.
    """
    async with Admin(kafka) as admin:
        if topic.name in await admin.partitions():
            return
        if partitions is None:
            raise TopicError(
                f"{absent(kafka, topic.name)}; create it with `headrace topics create {topic.name}`, or give --create"
            )
        await admin.create(topic, partitions)


async def prepare(kafka: Kafka, topics: list[Topic]) -> dict[str, int]:
    """Make sure that a pipeline's topics fit together before it starts; creates those that are missing.

    Args:
        topics: the input first; it must exist, with the partitions that all copartitioned ones must have.

    Returns:
        The number of partitions of each.

    Raises:
        TopicError: the input is missing, or partition counts differ.
    """
    source, *others = topics
    async with Admin(kafka) as admin:
        there = await admin.partitions()
        if source.name not in there:
            raise TopicError(
                f"input {absent(kafka, source.name)}; "
                f"create it with `headrace topics create {source.name}`, or set the pipeline's `input`"
            )
        wanted = there[source.name]
        for topic in others:
            if topic.name not in there:
                there[topic.name] = await admin.create(topic, wanted)
            elif topic.copartitioned and there[topic.name] != wanted:
                raise TopicError(
                    f"topic {topic.name!r} has {there[topic.name]} partitions, but its input {source.name!r} has "
                    f"{wanted}; they must be equal, since a record's outputs go to the number that it came from: "
                    f"create {topic.name!r} anew with {wanted}, or choose another name for it in the settings"
                )
    return {topic.name: there[topic.name] for topic in topics}


def check_assigned(source: str, assigned: Iterable[int], there: Mapping[str, int]) -> None:
    """Before records of an input flow: what `prepare` made fit together must still do so.

    Raises:
        TopicError: partitions were added meanwhile.
    """
    added = [number for number in assigned if number >= there[source]]
    if added:
        raise TopicError(
            f"reading topic {source!r}: expected the {there[source]} partitions that it had when this worker started, "
            f"got partition {added[0]} as well; partitions were added, so that a key's records may come on another "
            "partition than its state is on. Nothing of the new ones was read. The worker stops; a new one says which "
            "topics must be created anew"
        )
