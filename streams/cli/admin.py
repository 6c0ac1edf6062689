"""Changes to topics that only a person asks for: their replication, and their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence, Set

from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.errors import TopicError
from streams.topics import Admin, Topic

VISIBLE_TIMEOUT_S = 10.0
VISIBLE_POLL_S = 0.05


class TopicAdmin(Admin):
    """As `Admin`, with what the commands need beyond it."""

    async def __aenter__(self) -> TopicAdmin:
        await super().__aenter__()
        return self

    async def create_replicated(self, topic: Topic, partitions: int, replication: int) -> None:
        """Create a topic with so many copies.

        Raises:
            TopicError: the broker refuses it.
        """
        new = NewTopic(topic.name, partitions, replication, topic_configs=dict(topic.config))
        try:
            response = await self._client.create_topics([new])
        except KafkaError as error:
            raise TopicError(f"creating topic {topic.name!r}: {error!r}") from error
        for name, code, *rest in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise TopicError(f"creating topic {name!r}: {rest[0] if rest else for_code(code).__name__}")

    async def await_visible(self, names: Set[str]) -> None:
        """Wait until clients see these topics: a broker confirms a new one a moment earlier.

        Raises:
            TopicError: one does not appear in time.
        """
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        while missing := sorted(names - (await self.partitions()).keys()):
            if time.monotonic() >= deadline:
                raise TopicError(f"creating topics: {', '.join(missing)} did not appear in {VISIBLE_TIMEOUT_S:g} s")
            await asyncio.sleep(VISIBLE_POLL_S)

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics.

        Raises:
            TopicError: the broker refuses to delete one; others may be gone.
        """
        try:
            response = await self._client.delete_topics(list(names))
        except KafkaError as error:
            raise TopicError(f"deleting {', '.join(names)}: {error!r}") from error
        for name, code in response.topic_error_codes:
            if code:
                raise TopicError(f"deleting topic {name!r}: {for_code(code).__name__}")
