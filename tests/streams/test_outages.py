from __future__ import annotations

import logging
import ssl

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, TopicAuthorizationFailedError

from streams.cli.logs import Once, echoes
from streams.clock import ManualClock
from streams.outages import OUTAGES, Outages

PLACE = "kafka-1:9092"
REFUSED = ConnectionRefusedError(111, "Connection refused")


def test_an_outage_is_said_when_it_begins_every_ten_seconds_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(1000.0)
    outages = Outages(clock)
    with caplog.at_level(logging.WARNING, "streams.outages"):
        for _ in range(240):  # 24 s
            outages.failed(PLACE)
            clock.advance(0.1)
        outages.answered(PLACE)
        outages.answered(PLACE)
    assert [record.getMessage() for record in caplog.records] == [
        f"Kafka at {PLACE} does not answer; nothing is read from it or written to it until it does, and it is asked "
        "again several times a second",
        f"Kafka at {PLACE} has not answered for 10 s; it is asked again",
        f"Kafka at {PLACE} has not answered for 20 s; it is asked again",
        f"Kafka at {PLACE} answers again, after 24.0 s",
    ]


def test_what_is_told_of_an_outage_ends_with_it_or_when_nobody_asks_any_more() -> None:
    clock = ManualClock(1000.0)
    outages = Outages(clock)
    assert outages.told() == ""
    outages.failed(PLACE)
    clock.advance(12)
    assert outages.told() == f"Kafka at {PLACE} has not answered for 12 s"
    outages.failed("kafka-2:9092")
    assert outages.told().endswith("Kafka at kafka-2:9092 has not answered for 0 s")
    outages.answered("kafka-2:9092")
    clock.advance(100)
    assert outages.told() == ""
    assert outages


def test_an_outage_is_remembered_for_what_is_said_late() -> None:
    clock = ManualClock(1000.0)
    outages = Outages(clock)
    assert not outages.during(1e6)
    outages.failed(PLACE)
    clock.advance(3)
    outages.answered(PLACE)
    assert not outages
    clock.advance(5)
    assert outages.during(8)
    assert not outages.during(4)


def line(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, text, values, None)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (line("Unable connect to node with id %s: %s", 1, REFUSED), False),
        (line("Unable connect to node with id %s: %s", 1, TimeoutError()), False),
        (line("Unable connect to node with id %s: %s", 1, ssl.SSLCertVerificationError("expired")), True),
        (line("Unable connect to node with id %s: %s", 1, OSError("name or service not known")), True),
        (line("Heartbeat send request failed: %s. Will retry.", KafkaConnectionError()), False),
        (line("Heartbeat send request failed: %s. Will retry.", TopicAuthorizationFailedError()), True),
        (line("Got error produce response: %s", NodeNotReadyError()), False),
        (line("Unable to update metadata from %s", [1]), True),
        (line("Timer %s is overlapping (interval=%r runtime=%r)", "commit", 0.3, 1e-9), True),
        (line("a sentence of a library: %s", REFUSED), True),
    ],
)
def test_of_libraries_only_what_an_outage_explains_is_left_out(record: logging.LogRecord, shown: bool) -> None:
    assert echoes(record) != shown
    assert Once().filter(record) == shown


def test_what_has_no_reason_of_its_own_is_left_out_while_a_broker_is_away() -> None:
    OUTAGES.failed(PLACE)
    try:
        assert not Once().filter(line("Unable to update metadata from %s", [1]))
    finally:
        OUTAGES.answered(PLACE)
    once = Once()
    assert not once.filter(line("Unable to request metadata from node with id %s: %r", 1, KafkaConnectionError()))
    assert not once.filter(line("Unable to update metadata from %s", [1]))
    assert echoes(line("Timer %s is overlapping (interval=%r runtime=%r)", "commit", 0.3, 18.14))
