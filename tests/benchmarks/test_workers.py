"""Workers and subscribers as the benchmarks start them."""

from __future__ import annotations

import time

import pytest

from streams import settings
from tests.conftest import Kafka
from tests.waiting import until as soon

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.processes import ChildError, started
from benchmarks.recovery import PARTITIONS, Subscriber
from benchmarks.topics import Topics
from benchmarks.workers import Flow, Worker, until

FLOW = Flow("broker:1", "group", "in", "out", "exactly_once")


def test_a_worker_gets_the_flow_and_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BATCH__MAX_BATCH_SIZE", "7")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    environment = FLOW.environment()
    assert environment["PYTHONHASHSEED"] == "1"
    loaded = settings.load(environ=environment)
    assert loaded.batch == settings.Batch()
    assert (loaded.kafka.bootstrap_servers, loaded.worker.group) == ("broker:1", "group")
    assert (loaded.fraud.input, loaded.fraud.output, loaded.worker.http_port) == ("in", "out", 0)
    assert loaded.worker.processing_guarantee == "exactly_once"


def test_a_worker_that_ends_is_reported_with_its_last_words() -> None:
    worker = Worker(Flow("broker:1", "group", "in", "out", "at_most_once"))
    try:
        soon(lambda: not worker.running, 30, "the end of a worker with a wrong setting")
        with pytest.raises(ChildError, match=r"(?s)ended by itself.*processing_guarantee"):
            worker.owns(1)
    finally:
        worker.stop()


def test_waiting_ends_with_a_sentence() -> None:
    until(lambda: True, 0, "nothing")
    with pytest.raises(TimeoutError, match=r"waiting for a miracle: .* within 0.01 s"):
        until(lambda: False, 0.01, "a miracle")


def test_what_a_child_says_can_be_read_while_it_goes_on() -> None:
    script = "import sys\nfor line in sys.stdin: print('heard', line, end='', file=sys.stderr, flush=True)"
    with started("child", ["-c", script], piped_input=True) as child:
        for number in range(3):
            child.ask(str(number))
            soon(lambda number=number: child.said.count("heard") == number + 1, 10, "an echo")
        assert child.said.splitlines() == ["heard 0", "heard 1", "heard 2"]


def test_a_subscriber_notes_when_each_partition_was_heard(kafka: Kafka) -> None:
    with Topics(kafka.bootstrap_servers) as topics:
        topic = topics.create("heard", PARTITIONS)
        subscriber = Subscriber(kafka.bootstrap_servers, topic)
        try:
            began_ns = time.monotonic_ns()
            topics.fill(topic, ((b"k%d" % number, b"{}") for number in range(500)))
            soon(lambda: sum(map(len, subscriber.since(began_ns))) == 500, 10, "all records")
            assert all(list(heard) == sorted(heard) and len(heard) for heard in subscriber.since(began_ns))
            assert not any(map(len, subscriber.since(time.monotonic_ns())))
        finally:
            subscriber.stop()
