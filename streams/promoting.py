"""Asking for a rollout, and hearing what the workers make of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.acls import explained
from streams.clock import Clock, SystemClock
from streams.errors import ProduceError
from streams.following import Follower
from streams.rollout import REPORTS_SUFFIX, Report, Rollout, control_topics, decode
from streams.settings import Kafka, Models
from streams.topics import Admin, ask_coordinator, unavailable

POLL_MS = 100
MEMBERS = 5  # of a group's fields in the answer, in every version


class Rollouts:
    """The rollouts of all models of a cluster. Use as an async context manager, on one event loop.

    Raises (entering and all methods):
        BrokerUnavailable: nobody answers.
    """

    def __init__(self, kafka: Kafka, models: Models, clock: Clock | None = None) -> None:
        self._kafka, self._models = kafka, models
        self._clock = clock or SystemClock()
        self._control = TopicPartition(models.control, 0)
        self._answers = TopicPartition(models.control + REPORTS_SUFFIX, 0)
        self._reader = Follower(kafka, [self._control, self._answers], POLL_MS, self._clock)
        self._producer = AIOKafkaProducer(**kafka.client_options(), enable_idempotence=True)

    async def __aenter__(self) -> Rollouts:
        try:
            await self._make_topics()
            await self._reader.start()
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self.__aexit__()
            raise unavailable(self._kafka, error) from error
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _make_topics(self) -> None:
        async with Admin(self._kafka) as admin:
            there = await admin.partitions()
            for topic in control_topics(self._models):
                if topic.name not in there:
                    await admin.create(topic, 1)

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._producer.stop()
        finally:
            await self._reader.stop()

    async def last(self, model: str) -> Rollout | None:
        """What is to serve of a model; None where that has never been asked for."""
        try:
            batches = await self._reader.read_to_end(self._control)
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error
        # What is no rollout is not ours; workers say so in their logs.
        return next((rollout for _, rollout in reversed(decode(batches, Rollout)) if rollout.model == model), None)

    async def ask(self, rollout: Rollout) -> int:
        """Write a rollout; returns its offset, which reports name. Reports are read from here on.

        Raises:
            ProduceError: the broker does not take it.
        """
        try:
            ends = await self._reader.end_offsets([self._answers])
            await self._reader.skip_to(self._answers, ends[self._answers])
            written = await self._producer.send_and_wait(
                self._control.topic, msgspec.json.encode(rollout), key=rollout.model.encode(), partition=0
            )
        except KafkaError as error:
            raise ProduceError(
                f"writing the rollout of {rollout.reference} to {self._control.topic}: {explained(error, 'WRITE')}; "
                "nothing changes"
            ) from error
        offset: int = written.offset
        return offset

    async def reports(self, offset: int, timeout_s: float) -> AsyncIterator[Report]:
        """What workers say of a rollout, or of one that came after it, for `timeout_s`."""
        deadline = self._clock.monotonic() + timeout_s
        while self._clock.monotonic() < deadline:
            try:
                batches = await self._reader.poll([self._answers], POLL_MS)
            except KafkaError as error:
                raise unavailable(self._kafka, error) from error
            for _, report in decode(batches, Report):
                if report.rollout >= offset:
                    yield report

    async def members(self, group: str) -> int:
        """How many workers a consumer group has now."""
        admin = AIOKafkaAdminClient(**self._kafka.client_options())
        try:
            await admin.start()
            described = await ask_coordinator(self._kafka, lambda: admin.describe_consumer_groups([group]))
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error
        finally:
            await admin.close()
        return sum(len(found[MEMBERS]) for response in described for found in response.groups)
