"""One bad record in every batch: each good one is predicted, each bad one is dead-lettered as it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

PARTITIONS, BATCH = 4, 64
Row = tuple[int, bytes | None, bytes | None, verify.Headers]


def transaction(number: int, **changes: object) -> bytes:
    """A good transaction, unless `changes` say otherwise."""
    fields = {
        "transaction_id": f"t{number}",
        "card_id": f"c{number % 500}",
        "terminal_id": "m1",
        "amount": 12.5,
        "event_time": 1_735_689_600_000 + number * 1000,
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None}).encode()


# What can be wrong with a transaction, and what the dead letter must call it.
POISON: dict[str, tuple[Callable[[int], bytes | None], str]] = {
    "not JSON": (lambda n: b"{nonsense", "DecodeError"),
    "not UTF-8": (lambda n: transaction(n).replace(b"m1", b"\xff\xfe"), "DecodeError"),
    "empty": (lambda n: b"", "DecodeError"),
    "a list": (lambda n: b"[1,2]", "ValidationError"),
    "a missing field": (lambda n: transaction(n, terminal_id=None), "ValidationError"),
    "a wrong type": (lambda n: transaction(n, amount="12.5"), "ValidationError"),
    "a negative amount": (lambda n: transaction(n, amount=-0.01), "ValidationError"),
    "an infinite amount": (lambda n: transaction(n, amount=7.25).replace(b"7.25", b"1e999"), "Error"),
    "not a number": (lambda n: transaction(n, amount=7.25).replace(b"7.25", b"NaN"), "DecodeError"),
    "an unreadable time": (lambda n: transaction(n, event_time="yesterday"), "ValidationError"),
    "a time without zone": (lambda n: transaction(n, event_time="2025-01-01T00:00:00"), "ValidationError"),
    "a time far ahead": (lambda n: transaction(n, event_time=99_999_999_999_999), "EventTimeAbsurd"),
    "a time beyond int64": (lambda n: transaction(n, event_time=10**30), "EventTimeAbsurd"),
    "a negative time": (lambda n: transaction(n, event_time=-5), "EventTimeAbsurd"),
    "too large": (lambda n: transaction(n, currency="x" * 17_000), "ValueTooLarge"),
    "a tombstone": (lambda n: None, "Tombstone"),
    "another key": (lambda n: transaction(n, card_id="c-other"), "KeyMismatch"),
}
KINDS = list(POISON)


def kind(number: int) -> str | None:
    """Which poison the record is: the last of each 64 of its partition is one, all kinds in turn."""
    row = number // PARTITIONS
    return KINDS[row // BATCH % len(KINDS)] if row % BATCH == BATCH - 1 else None


def rows(count: int) -> Iterator[Row]:
    for number in range(count):
        bad = kind(number)
        key: bytes | None = b"c%d" % (number % 500)
        if bad == "a tombstone":
            key = None
        value = transaction(number) if bad is None else POISON[bad][0](number)
        headers = [("kind", (bad or "good").encode()), ("raw", b"\x00\xff"), ("raw", b"again")]
        yield number % PARTITIONS, key, value, headers


def test_one_bad_transaction_in_each_of_two_thousand_batches(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers, count = kafka.bootstrap_servers, 2_000 * BATCH
    source, output = make_topics("poisoned", "poisoned-flags", partitions=PARTITIONS)
    group = f"{source}-group"
    verify.send(servers, source, rows(count))
    worker = workers.fraud(group, fraud__input=source, fraud__output=output, batch__max_batch_size=BATCH).running()
    until(lambda: not verify.behind(servers, group, source), 120, "a commit of everything")

    inputs, letters = verify.read(servers, source), verify.read(servers, f"{source}.dead-letter")
    bad = {place(record): record for record in inputs if record.header("kind") != b"good"}
    assert len(inputs) == count
    assert len(bad) == 2_000
    good = [record for record in inputs if place(record) not in bad]
    assert verify.assert_nothing_lost(good, verify.read(servers, output), source) == 0
    assert len(letters) == len(bad)
    for letter in letters:
        came = bad.pop(came_from(letter))
        assert (letter.key, letter.value) == (came.key, came.value)
        assert letter.headers[: len(came.headers)] == came.headers
        assert_told(letter, len(came.headers), source)
    assert worker.metric("headrace_records_in_total") == count
    assert worker.metric("headrace_records_out_total") == count - 2_000
    assert worker.metric("headrace_records_dead_lettered_total") == 2_000
    assert worker.stop() == 0


def place(record: verify.Record) -> tuple[int, int]:
    return record.partition, record.offset


def came_from(letter: verify.Record) -> tuple[int, int]:
    """Where the record of a dead letter stood."""
    return int(letter.header("error.partition") or b""), int(letter.header("error.offset") or b"")


def assert_told(letter: verify.Record, own: int, source: str) -> None:
    """The headers behind the record's own say what failed and where."""
    told = dict(letter.headers[own:])
    expected = POISON[(letter.header("kind") or b"").decode()][1]
    assert expected in told["error.type"].decode(), (letter.header("kind"), told)
    assert told["error.stage"] == b"decode"
    assert told["error.message"]
    assert told["error.topic"] == source.encode()
    assert told["error.pipeline"] == b"fraud"
    assert told["error.model"].startswith(b"fraud/")
    assert told["error.attempts"] == b"1"
    assert told["error.first-failed-at"].endswith(b"Z")


def test_records_that_break_the_features_the_model_or_the_encoding(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers, stages = kafka.bootstrap_servers, [b"poison", b"bad:features", b"bad:infer", b"nan", b"bad:encode"]
    source, output = make_topics("breaking", "breaking-out", partitions=PARTITIONS)
    group = f"{source}-group"
    values = [
        stages[n // PARTITIONS // BATCH % len(stages)] if n // PARTITIONS % BATCH == 31 else b"{}"
        for n in range(200 * BATCH)
    ]
    verify.send(servers, source, ((n % PARTITIONS, b"k%d" % (n % 97), v, []) for n, v in enumerate(values)))
    script = {"input": source, "output": output}
    worker = workers.counting(group, script, batch__max_batch_size=BATCH).running()
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")

    inputs, letters = verify.read(servers, source), verify.read(servers, f"{source}.dead-letter")
    good = [record for record in inputs if record.value == b"{}"]
    assert verify.assert_nothing_lost(good, verify.read(servers, output), source) == 0
    expected = {b"poison": b"decode", b"bad:features": b"features", b"bad:encode": b"encode"}
    assert len(letters) == len(inputs) - len(good) == 200
    assert all(expected.get(each.value or b"", b"infer") == each.header("error.stage") for each in letters)
    assert {came_from(letter) for letter in letters} == {place(each) for each in inputs if each.value != b"{}"}
    assert worker.stop() == 0
