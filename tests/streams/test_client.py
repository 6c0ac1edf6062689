from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, UnknownTopicOrPartitionError
from aiokafka.protocol.commit import OffsetCommitRequest

from streams.client import MemberClient, SteadyClient
from streams.membership import Membership
from streams.settings import Worker


def test_a_commit_for_a_topic_that_is_gone_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka tries it again until a topic of that name is there, which begins with the offset of the old one."""

    async def answer(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(topics=[("events", [(0, 0), (1, UnknownTopicOrPartitionError.errno)])])

    async def run() -> None:
        client = MemberClient()
        client.membership = Membership("group", Worker())
        await client.send(0, OffsetCommitRequest("group", 1, "member", -1, []))

    monkeypatch.setattr(AIOKafkaClient, "send", answer)
    with pytest.raises(KafkaError, match="committing offsets of 'events': the topic is gone") as raised:
        asyncio.run(run())
    assert not raised.value.retriable


def test_a_broker_that_knows_a_request_no_more_is_not_one_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one is asked again and again; this one would be for ever."""

    async def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("Support for OffsetCommitRequest v9 has not yet been added")

    async def run() -> None:
        await SteadyClient().send(0, OffsetCommitRequest("group", 1, "member", -1, []))

    monkeypatch.setattr(AIOKafkaClient, "send", refuse)
    with pytest.raises(
        IncompatibleBrokerVersion, match=r"asking Kafka at .*: Support for OffsetCommitRequest v9"
    ) as told:
        asyncio.run(run())
    assert not told.value.retriable
