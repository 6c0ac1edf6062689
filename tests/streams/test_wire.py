"""What goes over the wire, against what aiokafka's own structs make of the same."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol import fetch, produce
from aiokafka.protocol.api import ResponseHeader_v0
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest

from streams.wire import Exchange, Fetch, Fetched, FetchedPartition, Place, Produce, Produced, Wanted

FETCHES, PRODUCES = range(4, 12), range(3, 8)
CORRELATION, CLIENT = 0x01020304, "headrace-caf\u00e9"
LARGE = 1 << 40

Partitions = dict[str, list[dict[str, Any]]]
Records = bytes | bytearray | memoryview
Topics = list[tuple[str, list[tuple[int, Records]]]]

WANTED: Wanted = {("a", 0): (5, 1 << 20), ("b", 3): (LARGE, 100), ("a", 70_000): (0, 1 << 20)}
GONE: list[Place] = [("b", 1), ("c", 0), ("b", 0)]

PARTITIONS: Partitions = {  # by aiokafka's names
    "a": [
        {"partition": 0, "highwater_offset": LARGE, "last_stable_offset": 7, "message_set": b"block" * 100},
        {"partition": 70_000, "error_code": 1, "highwater_offset": -1, "last_stable_offset": -1},
        {"partition": 2, "aborted_transactions": [(LARGE, 3), (8, LARGE)], "message_set": b""},
    ],
    "b": [{"partition": 1, "aborted_transactions": [], "message_set": b"\x00\xff"}],
}
SILENT: dict[str, Any] = {
    "error_code": 0,
    "highwater_offset": 9,
    "last_stable_offset": 9,
    "log_start_offset": 4,
    "aborted_transactions": None,
    "preferred_read_replica": -1,
    "message_set": None,
}


def by_topic(wanted: Wanted) -> list[tuple[str, list[tuple[int, int, int]]]]:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, partition), (offset, most) in wanted.items():
        topics.setdefault(topic, []).append((partition, offset, most))
    return list(topics.items())


def whole(wanted: Wanted) -> FetchRequest:
    return FetchRequest(500, 1, 1 << 25, 1, by_topic(wanted), "rack")


def versions(request: type[Exchange], version: int) -> dict[int, tuple[int, int]]:
    """A broker's that knows no newer one."""
    return {request.API_KEY: (0, version)}


def message(request: Any) -> bytes:
    """As aiokafka's connection makes it."""
    header: bytes = request.build_request_header(CORRELATION, CLIENT).encode()
    return header + bytes(request.encode())


def answered(request: Exchange, answer: bytes) -> Any:
    """As aiokafka's connection reads it."""
    received = BytesIO(ResponseHeader_v0(CORRELATION).encode() + answer)
    assert request.parse_response_header(received).correlation_id == CORRELATION
    return request.RESPONSE_TYPE.decode(received)


def asked(version: int) -> Fetch:
    return Fetch(whole(WANTED), (0, 0), WANTED, [], WANTED).prepare(versions(Fetch, version))


def written(version: int) -> Produce:
    return Produce(ProduceRequest(None, -1, 1000, [])).prepare(versions(Produce, version))


@pytest.mark.parametrize("version", FETCHES)
@pytest.mark.parametrize(("session", "changed", "gone"), [
    ((0, 0), WANTED, []),
    ((0x7FFFFFFF, 12), {("a", 0): (5, 1 << 20)}, GONE),
    ((3, 0x7FFFFFFF), {}, []),
])  # fmt: skip
def test_a_fetch(version: int, session: tuple[int, int], changed: Wanted, gone: Sequence[Place]) -> None:
    expected = whole(changed if version >= 7 else WANTED).prepare(versions(Fetch, version))
    assert message(expected)[:4] == struct.pack(">hh", 1, version)
    if version >= 7:
        forgotten: dict[str, list[int]] = {}
        for topic, partition in gone:
            forgotten.setdefault(topic, []).append(partition)
        expected.session_id, expected.session_epoch = session
        expected.forgotten_topics_data = list(forgotten.items())
    request = Fetch(whole(WANTED), session, changed, gone, WANTED)
    assert message(request.prepare(versions(Fetch, version))) == message(expected)


@pytest.mark.parametrize("version", PRODUCES)
@pytest.mark.parametrize("transactional_id", [None, "", "headrace-0"])
@pytest.mark.parametrize("topics", [
    [("a", [(0, b"block")])],
    [("a", [(0, bytearray(b"block" * 1000)), (70_000, b"")]), ("b", [(3, memoryview(b"another"))])],
    [],
])  # fmt: skip
def test_a_produce_request(version: int, transactional_id: str | None, topics: Topics) -> None:
    request = ProduceRequest(transactional_id, -1, 30_000, topics)
    expected = request.prepare(versions(Produce, version))
    assert message(expected)[:4] == struct.pack(">hh", 0, version)
    assert message(Produce(request).prepare(versions(Produce, version))) == message(expected)


def test_the_newest_version_that_both_sides_know_is_taken() -> None:
    for broker, version in {(0, 4): 4, (4, 9): 9, (0, 17): 11, (11, 17): 11}.items():
        assert Fetch(whole(WANTED), (0, 0), {}, [], WANTED).prepare({Fetch.API_KEY: broker}).version == version
    for broker, version in {(0, 3): 3, (3, 5): 5, (0, 12): 7, (7, 12): 7}.items():
        assert Produce(ProduceRequest(None, -1, 1, [])).prepare({Produce.API_KEY: broker}).version == version


@pytest.mark.parametrize("broker", [(0, 3), (12, 17)])
def test_a_broker_that_knows_no_fetch_of_ours(broker: tuple[int, int]) -> None:
    with pytest.raises(IncompatibleBrokerVersion, match=f"fetch requests.* 4 to 11, got {broker[0]} to {broker[1]}$"):
        asked(11).prepare({Fetch.API_KEY: broker})


@pytest.mark.parametrize("broker", [(0, 2), (8, 11)])
def test_a_broker_that_knows_no_produce_request_of_ours(broker: tuple[int, int]) -> None:
    with pytest.raises(IncompatibleBrokerVersion, match=f"produce requests.* 3 to 7, got {broker[0]} to {broker[1]}$"):
        written(7).prepare({Produce.API_KEY: broker})


def test_a_broker_that_says_nothing_of_fetches() -> None:
    with pytest.raises(IncompatibleBrokerVersion, match="fetch requests"):
        asked(11).prepare({})


def fetch_answer(version: int, partitions: Partitions | None, session: int = 77) -> bytes:
    """As aiokafka writes it; what a partition is silent about is as in `SILENT`."""
    response = getattr(fetch, f"FetchResponse_v{version}")
    names = response.SCHEMA.fields[-1].array_of.fields[1].array_of.names
    topics = partitions and [
        (topic, [tuple((SILENT | entry)[name] for name in names) for entry in entries])
        for topic, entries in partitions.items()
    ]
    answer: bytes = response(*((250, 70, session, topics) if version >= 7 else (250, topics))).encode()
    return answer


@pytest.mark.parametrize("version", FETCHES)
def test_the_answer_to_a_fetch(version: int) -> None:
    expected = [
        FetchedPartition(
            (topic, entry["partition"]),
            entry["error_code"],
            entry["highwater_offset"],
            entry["last_stable_offset"],
            entry["aborted_transactions"] or [],
            entry["message_set"] or b"",
        )
        for topic, entries in PARTITIONS.items()
        for entry in (SILENT | each for each in entries)
    ]
    error, session = (70, 77) if version >= 7 else (0, 0)
    answer = fetch_answer(version, PARTITIONS)
    assert answered(asked(version), answer) == Fetched(error, session, expected, throttled_ms=250)
    assert answered(asked(version), fetch_answer(version, {})) == Fetched(error, session, [], throttled_ms=250)
    assert answered(asked(version), fetch_answer(version, None)) == Fetched(error, session, [], throttled_ms=250)


def produce_answer(version: int, topics: list[tuple[str, list[tuple[int, ...]]]] | None) -> bytes:
    answer: bytes = getattr(produce, f"ProduceResponse_v{version}")(topics, 250).encode()
    return answer


@pytest.mark.parametrize("version", PRODUCES)
def test_the_answer_to_a_produce_request(version: int) -> None:
    start = (4,) if version >= 5 else ()
    topics: list[tuple[str, list[tuple[int, ...]]]] = [
        ("a", [(0, 0, LARGE, -1, *start), (70_000, 6, -1, 1_700_000_000_000, *start)]),
        ("b", [(3, 0, 0, 5, *start)]),
        ("c", []),
    ]
    answer = produce_answer(version, topics)
    aiokafkas = getattr(produce, f"ProduceResponse_v{version}").decode(answer)
    assert answered(written(version), answer) == Produced(version, topics) == Produced(version, aiokafkas.topics)
    assert answered(written(version), produce_answer(version, [])) == Produced(version, [])
    assert answered(written(version), produce_answer(version, None)) == Produced(version, [])


@pytest.mark.parametrize("version", FETCHES)
def test_an_answer_to_a_fetch_that_is_cut_off(version: int) -> None:
    answer = fetch_answer(version, {"topic": [{"partition": 0, "aborted_transactions": [(1, 2)]}]})
    for length in range(len(answer)):
        with pytest.raises(struct.error):
            answered(asked(version), answer[:length])


@pytest.mark.parametrize("version", FETCHES)
def test_fetched_records_that_are_cut_off(version: int) -> None:
    with pytest.raises((struct.error, ValueError)):
        answered(asked(version), fetch_answer(version, {"topic": [{"partition": 0, "message_set": b"block"}]})[:-1])


@pytest.mark.parametrize("version", PRODUCES)
def test_an_answer_to_a_produce_request_that_is_cut_off(version: int) -> None:
    answer = produce_answer(version, [("topic", [(0, 0, 5, -1, 0)[: 5 if version >= 5 else 4]])])
    for length in range(len(answer) - 4):  # the time of throttling, which nobody needs
        with pytest.raises(struct.error):
            answered(written(version), answer[:length])
