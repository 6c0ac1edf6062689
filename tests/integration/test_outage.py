"""What a worker, a subscriber and a producer say and do while the broker is away, and when it is back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.broker import Broker
from tests import verify
from tests.conftest import MakeTopics
from tests.connectors.cameras import jpeg
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

AWAY_LINES = 3  # gone, still away, back
SOON_S, LONG_S = 30.0, 60.0
REPEATED = r"Kafka at 127\.0\.0\.1:{} has not answered for 1\d s"


@pytest.fixture
def broker(private_broker: Callable[..., Broker]) -> Broker:
    made = private_broker()
    made.start()
    return made


def port(broker: Broker) -> str:
    return broker.bootstrap_servers.rpartition(":")[2]


@contextmanager
def command(broker: Broker, folder: Path, *arguments: object, **settings: object) -> Iterator[WorkerProcess]:
    """`headrace ARGUMENTS...` in a process of its own."""
    settings = {"kafka__bootstrap_servers": broker.bootstrap_servers, **settings}
    process = WorkerProcess(["-m", "streams.cli", *map(str, arguments)], settings, folder / "command.log")
    try:
        yield process
    finally:
        if process.alive:
            process.kill()


def of_outage(said: str) -> list[str]:
    return [line for line in said.splitlines() if "Kafka at" in line]


def test_a_worker_says_that_the_broker_is_gone_and_that_it_is_back(
    broker: Broker, make_topics: MakeTopics, workers: Workers
) -> None:
    source, output = make_topics("outage", "outage-out", partitions=4, kafka=broker)
    group = f"{source}-group"
    worker = workers.counting(group, {"input": source, "output": output}, broker.bootstrap_servers).running()
    before = worker.output()
    broker.stop()
    worker.said(f"Kafka at {broker.bootstrap_servers} does not answer")
    status, body = worker.ready()
    assert (status, body["ready"]) == (200, True)
    assert re.search(
        rf"4 partitions assigned; Kafka at {broker.bootstrap_servers} has not answered for \d+ s", body["reason"]
    )
    worker.said(REPEATED.format(port(broker)))
    assert len(worker.output().removeprefix(before).splitlines()) == 2, "of libraries nothing stands beside it"
    broker.start()
    worker.said(rf"Kafka at {broker.bootstrap_servers} answers again, after \d+\.\d s")
    verify.send(broker.bootstrap_servers, source, [(0, b"k", b"{}", [])])
    until(lambda: not verify.behind(broker.bootstrap_servers, group, source), SOON_S, "a commit")
    assert worker.ready()[1]["reason"] == "4 partitions assigned"
    assert worker.stop() == 0
    said = worker.output()
    assert "overlapping" not in said
    assert "streams.fetching" not in said
    assert len(of_outage(said)) <= AWAY_LINES + 1


def test_a_subscriber_says_it_in_as_few_lines(broker: Broker, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("followed", kafka=broker)
    with command(
        broker, tmp_path, "subscribe", topic, "--from", "earliest", "--format", "json", "--limit", 2
    ) as reader:
        verify.send(broker.bootstrap_servers, topic, [(0, b"k", b"1", [])])
        reader.said('"value": ?1')
        broker.stop()
        reader.said(REPEATED.format(port(broker)))
        broker.start()
        reader.said("answers again, after")
        verify.send(broker.bootstrap_servers, topic, [(0, b"k", b"2", [])])
        assert reader.ended(SOON_S) == 0
        assert len(reader.output().splitlines()) <= 2 + AWAY_LINES + 1
