"""What a worker, a subscriber and a producer say and do while the broker is away, and when it is back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.broker import Broker
from tests import verify
from tests.conftest import MakeTopics
from tests.connectors.cameras import jpeg
from tests.integration.test_bad_weather import assert_ends
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


def held(broker: Broker, topic: str) -> int:
    """How many records a topic has; none as long as the broker does not lead its partitions yet."""
    try:
        return sum(verify.ends(broker.bootstrap_servers, topic).values())
    except KafkaException as error:
        if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
            raise
        return 0


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


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_broker_that_goes_while_a_worker_restores_is_waited_for(
    broker: Broker, make_topics: MakeTopics, workers: Workers, guarantee: str
) -> None:
    source, output = make_topics("restoring", "restoring-out", partitions=2, kafka=broker)
    servers, group = broker.bootstrap_servers, f"{source}-group"
    script = {"input": source, "output": output, "restore_s": 3}
    worker = workers.counting(group, script, servers, worker__processing_guarantee=guarantee).started()
    until(lambda: worker.ready()[1]["phase"] == "restoring", SOON_S, "the beginning of the restore")
    broker.stop()
    worker.said("Unable connect to")
    broker.start()
    verify.send(servers, source, [(0, b"k", b"{}", [])])
    until(lambda: not verify.behind(servers, group, source), LONG_S, "a commit")
    assert worker.stop() == 0


def test_a_worker_ends_its_restore_when_the_broker_stays_away(
    broker: Broker, make_topics: MakeTopics, workers: Workers
) -> None:
    (source,) = make_topics("unrestored", kafka=broker)
    script = {"input": source, "output": f"{source}-out", "restore_s": 3}
    worker = workers.counting(f"{source}-group", script, broker.bootstrap_servers, worker__broker_timeout_s=3).started()
    until(lambda: worker.ready()[1]["phase"] == "restoring", SOON_S, "the beginning of the restore")
    broker.stop()
    assert_ends(worker, f"restoring {source}-group.changelog", "Unable to bootstrap", "the worker stops")


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


def sent(servers: str, topic: str) -> list[int]:
    """The numbers of a camera's frames, in the order of offsets."""
    return [int(record.header("frame") or b"-1") for record in verify.read(servers, topic)]


def pictures(folder: Path, count: int) -> Path:
    (folder / "pictures").mkdir()
    for number in range(count):
        (folder / "pictures" / f"{number:04}.jpg").write_bytes(jpeg(number))
    return folder / "pictures"


def test_a_producer_outlives_an_outage_and_loses_and_repeats_nothing(
    broker: Broker, make_topics: MakeTopics, tmp_path: Path
) -> None:
    (topic,) = make_topics("frames-outage", partitions=2, kafka=broker)
    source, count = pictures(tmp_path, 100), 100
    arguments = ("produce", "video", "--from", source, "--camera", "gate", "--fps", 10, "--topic", topic)
    with command(broker, tmp_path, *arguments, kafka__request_timeout_s=2) as producer:
        until(lambda: held(broker, topic) > 5, SOON_S, "a few frames")
        broker.stop()
        producer.said(REPEATED.format(port(broker)))  # five times as long as a request may take
        broker.start()
        assert producer.ended(LONG_S) == 0
        assert f"{count} frames of gate to {topic}" in producer.output()
        assert len(producer.output().splitlines()) <= 1 + AWAY_LINES + 1
    assert sent(broker.bootstrap_servers, topic) == list(range(count))


def test_events_at_a_rate_outlive_a_broker_that_is_killed(
    broker: Broker, make_topics: MakeTopics, tmp_path: Path
) -> None:
    (topic,) = make_topics("events-outage", partitions=4, kafka=broker)
    arguments = ("produce", "transactions", "--topic", topic, "--rate", 1000, "--count", 10_000)
    with command(broker, tmp_path, *arguments, kafka__request_timeout_s=2) as producer:
        until(lambda: held(broker, topic) > 2000, SOON_S, "a few events")
        broker.kill()
        producer.said(REPEATED.format(port(broker)))
        broker.start()
        assert producer.ended(LONG_S) == 0
        assert f"10,000 events to {topic}" in producer.output()
    values = [record.value for record in verify.read(broker.bootstrap_servers, topic)]
    assert len(values) == len(set(values)) == 10_000


def test_a_producer_ends_when_the_broker_stays_away(broker: Broker, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("frames-lost", kafka=broker)
    arguments = ("produce", "video", "--from", pictures(tmp_path, 300), "--fps", 20, "--topic", topic)
    with command(broker, tmp_path, *arguments, worker__broker_timeout_s=3) as producer:
        until(lambda: held(broker, topic) > 5, SOON_S, "a few frames")
        broker.stop()
        assert producer.ended(SOON_S) == 1
        said = producer.output()
    assert "Traceback" not in said
    assert "never retrieved" not in said
    found = re.search(
        r"^error: producing to .*: no acknowledgement for 3 s \(worker\.broker_timeout_s\); (\d+) of (\d+) events were "
        r"acknowledged, of the others some may be there too; see that the broker runs",
        said.splitlines()[-1],
    )
    assert found, said
    broker.start()
    assert int(found[1]) <= len(sent(broker.bootstrap_servers, topic)) <= int(found[2])
