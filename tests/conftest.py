"""Fixtures for every test: one embedded broker a session, private ones where a test stops its own, unique topics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.broker import Broker, BrokerSettings
from connectors.kafka_port import free_port
from tests.waiting import until

# Kafka itself, fetched once a checkout: the default home's own folder, so that the tests and the demo share it.
JARS = Path(__file__).parent.parent / BrokerSettings.home / "jars"
TOPIC_TIMEOUT_S = 30

_serial = itertools.count(1)


@dataclass(frozen=True)
class Kafka:
    """A running broker."""

    broker: Broker

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers


class MakeTopics(Protocol):
    """Create topics of unique names, and return those names in order."""

    def __call__(
        self, *names: str, partitions: int = 1, config: Mapping[str, str] | None = None, kafka: Broker | None = None
    ) -> list[str]: ...


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The session's broker. Tests share it: topics come from `make_topics`; nobody stops it."""
    home = tmp_path_factory.mktemp("kafka")
    with Broker(BrokerSettings(home=home, port=free_port(), jars=JARS, owned=True)) as broker:
        yield Kafka(broker)


@pytest.fixture
def private_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Make a broker of the test's own, not yet started; settings by keyword. All are stopped after the test."""
    made: list[Broker] = []

    def make(**settings: object) -> Broker:
        defaults: dict[str, object] = {
            "home": tmp_path / f"kafka-{len(made)}",
            "port": free_port(),
            "jars": JARS,
            "owned": True,
        }
        made.append(Broker(BrokerSettings(**(defaults | settings))))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for broker in made:
        broker.stop(timeout_s=5)


@pytest.fixture(scope="session")
def make_topics(request: pytest.FixtureRequest) -> MakeTopics:
    """Create topics on the session's broker or a given one: `make_topics("transactions", "flags", partitions=4)`."""

    def make(
        *names: str, partitions: int = 1, config: Mapping[str, str] | None = None, kafka: Broker | None = None
    ) -> list[str]:
        servers = (kafka or request.getfixturevalue("kafka")).bootstrap_servers
        unique = [f"{name}-{next(_serial)}" for name in names]
        admin = AdminClient({"bootstrap.servers": servers})
        created = admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {})) for name in unique])
        for future in created.values():
            future.result(TOPIC_TIMEOUT_S)
        until(
            lambda: set(unique) <= admin.list_topics(timeout=TOPIC_TIMEOUT_S).topics.keys(), TOPIC_TIMEOUT_S, "topics"
        )
        return unique

    return make
