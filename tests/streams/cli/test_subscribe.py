from __future__ import annotations

import os
import subprocess
import sys

import pytest
from confluent_kafka import Producer

from streams.cli.records import Filter, flat, readable
from streams.errors import TopicError
from streams.records import RecordBatch
from streams.subscribing import Start
from tests.conftest import Kafka, MakeTopics
from tests.streams.cli.conftest import Run

NOW_S = 1_700_000_000.0


def fill(kafka: Kafka, topic: str, *records: tuple[bytes | None, bytes | None, int, dict[str, bytes]]) -> None:
    """Key, value, timestamp in ms, headers; all to partition 0."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value, timestamp, headers in records:
        producer.produce(topic, value, key, partition=0, timestamp=timestamp, headers=headers)
    assert producer.flush(20) == 0


@pytest.mark.parametrize(("text", "at"), [
    ("latest", "latest"), ("earliest", "earliest"), ("-90s", 1_699_999_910_000), ("-5m", 1_699_999_700_000),
    ("-1.5h", 1_699_994_600_000), ("-2d", 1_699_827_200_000), ("1699999999123", 1_699_999_999_123),
    ("2023-11-14T22:13:20Z", 1_700_000_000_000), ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
    ("2023-11-14", 1_699_920_000_000), ("-99999999d", 0), (f"-{'9' * 400}d", 0), ("1912-06-23", 0), ("0", 0),
    ("99999999999999999999", 2**63 - 1),
])  # fmt: skip
def test_where_reading_begins(text: str, at: str | int) -> None:
    assert Start.parse(text, NOW_S).at == at


@pytest.mark.parametrize("text", ["", "-5", "5m", "yesterday", "-5w"])
def test_other_beginnings_are_refused(headrace: Run, text: str) -> None:
    assert "RFC 3339 or epoch milliseconds" in headrace("subscribe", "t", "--from", text, code=2).err


def test_reading_from_a_time(kafka: Kafka, make_topics: MakeTopics, headrace: Run) -> None:
    (topic,) = make_topics("times")
    fill(kafka, topic, *((b"k", b"%d" % n, int(NOW_S * 1000) + n * 1000, {}) for n in range(10)))
    arguments = ("subscribe", topic, "--format", "json", "--seconds", 3, "--limit", 3, "--from")
    for start in (str(int(NOW_S * 1000) + 6001), "2023-11-14T22:13:27Z"):
        assert [line["value"] for line in headrace(*arguments, start).lines()] == [7, 8, 9]
    assert headrace("subscribe", topic, "--seconds", 0.5, "--from", "-1h").out == ""
    assert headrace("subscribe", topic, "--seconds", 0.5).out == ""


def test_filters_choose_records(kafka: Kafka, make_topics: MakeTopics, headrace: Run) -> None:
    (topic,) = make_topics("filters")
    values = [
        b'{"flagged":true,"n":1,"a":{"b":"x"}}',
        b'{"flagged":false,"n":1.5}',
        b'{"flagged":"true"}',
        b"[1]",
        b"?",
    ]
    fill(kafka, topic, *((b"k%d" % n, value, 1, {}) for n, value in enumerate(values)))

    def offsets(*arguments: object) -> list[int]:
        shown = headrace("subscribe", topic, "--from", "earliest", "--format", "json", "--seconds", 1, *arguments)
        return [line["offset"] for line in shown.lines()]

    assert offsets("--key", "k3") == [3]
    assert offsets("--where", "flagged=true") == [0, 2]
    assert offsets("--where", "flagged=true", "--where", "n=1") == [0]
    assert offsets("--where", "n=1.50") == [1]
    assert offsets("--where", "a.b=x", "--key", "k0") == [0]
    assert offsets("--where", "flagged=1") == []


def test_what_is_not_json_is_shown_and_never_a_crash(kafka: Kafka, make_topics: MakeTopics, headrace: Run) -> None:
    (topic,) = make_topics("bytes")
    fill(kafka, topic, (b"\xff", b"\xfe\x00", 1, {}), (None, None, 1, {}), (b"k", b"\x1b[2J", 1, {"h": b"\xff"}),
         (b"k", b'{\n "a": 1\n}', 1, {}), (b"k", b'"\xff"', 1, {}), (b"k", b"[" * 100_000, 1, {}),
         (b"k", b"\xff\xd8\xff\xe0" + bytes(40_000), 1, {}))  # fmt: skip
    arguments = ("subscribe", topic, "--from", "earliest", "--limit", 7, "--headers", "--format")
    lines = headrace(*arguments, "json").lines()
    assert lines[0]["key_base64"] == "/w=="
    assert lines[0]["value_base64"] == "/gA="
    assert lines[0]["note"] == "the value is not JSON"
    assert lines[1]["key"] is None
    assert lines[1]["value"] is None
    assert lines[2]["headers"] == {"h": "(not UTF-8, as Base64) /w=="}
    assert lines[3]["value"] == {"a": 1}
    table = headrace(*arguments, "table").out
    assert "(no text, 2 bytes) fe 00\n" in table
    assert "(no text, 40,004 bytes) ff d8 ff e0 00 00 00 00 00 00 00 00 00 00 00 00…\n" in table
    assert "(tombstone)" in table
    assert "\x1b[2J" not in table
    assert "(not JSON) \\x1b[2J" in table


def test_dead_letters_say_why(kafka: Kafka, make_topics: MakeTopics, headrace: Run) -> None:
    (topic,) = make_topics("transactions.dead-letter")
    headers = {"trace": b"7", "error.stage": b"decode", "error.message": b"expected `float`, got `str`"}
    fill(kafka, topic, (b"c1", b'{"amount":"x"}', 1, headers))
    arguments = ("subscribe", topic, "--from", "earliest", "--limit", 1, "--format")
    (line,) = headrace(*arguments, "json").lines()
    assert line["headers"] == {"error.stage": "decode", "error.message": "expected `float`, got `str`"}
    header, row, *reasons = headrace(*arguments, "table").out.splitlines()
    assert header.split() == ["part", "offset", "time", "key", "value"]
    assert row.split() == ["0", "0", "1970-01-01T00:00:00.001Z", "c1", "amount=x"]
    assert [reason.strip() for reason in reasons] == [
        "error.stage: decode",
        "error.message: expected `float`, got `str`",
    ]
    assert "trace: 7" in headrace(*arguments, "table", "--headers").out


def test_values_are_flattened_for_people() -> None:
    assert flat(b'{"a":{"b":1,"c":{}},"d":[1,{"e":null}],"f":"x y","g":true}') == (
        'a.b=1  a.c={}  d=[1,{"e":null}]  f=x y  g=true'
    )
    assert flat(b"3") == "3"
    assert readable("Zürich\n".encode()) == "Z\\xfcrich\\n"


def test_filters_without_conditions_take_everything() -> None:
    batch = RecordBatch("t", 0, [5, 6], [0, 0], [None, b"k"], [None, b"x"], [[], []])
    assert list(Filter(None, {}).rows(batch)) == [0, 1]
    assert list(Filter(None, {"a": "1"}).rows(batch)) == []


def test_a_missing_topic_is_a_sentence(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("there")
    missing = headrace("subscribe", topic + "-not", code=1)
    assert isinstance(missing.result.exception, TopicError)
    assert topic in missing.error


def test_a_reader_that_goes_away_ends_it_quietly(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("pipe")
    fill(kafka, topic, *((b"k", b"%d" % n, 1, {}) for n in range(50_000)))
    follow = [sys.executable, "-m", "streams.cli", "subscribe", topic, "--from", "earliest"]
    environment = os.environ | {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b'"offset":0' in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0
