"""Dead letters carry the record byte for byte and say why; the guard stops a pipeline that only makes dead letters."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streams.deadletter import DeadLetterGuard, dead_letters
from streams.errors import DeadLetterLimit, PipelineStopped, PoisonEvent
from streams.records import Headers, Outgoing, RecordBatch
from streams.settings import DeadLetter
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.25


def _poison(rows: Iterable[int], message: str = "expected an event") -> dict[int, PoisonEvent]:
    return {row: PoisonEvent("decode", message, "InvalidEvent") for row in rows}


def _letters(records: RecordBatch, poison: dict[int, PoisonEvent], now_s: float = NOW_S) -> Outgoing:
    return dead_letters(records, poison, pipeline="fraud", model="fraud/3", now_s=now_s)


def test_key_value_and_headers_are_the_originals_byte_for_byte() -> None:
    keys = [b"\x00\xff", None, b"", b"k"]
    values = [b"\xff\xfe{", b"x" * 100_000, None, b""]
    headers: list[Headers] = [[("a", b"\x00\x01")], [("a", None), ("a", b"twice")], [], [("ü", b"")]]
    letters = _letters(batch(values, keys=keys, headers=headers), _poison(range(4)))
    assert letters.topic == "events.dead-letter"
    assert (list(letters.keys), list(letters.values)) == (keys, values)
    for row in range(4):
        assert letters.headers_of(row)[: len(headers[row])] == headers[row]


def test_the_records_own_headers_are_left_as_they_were() -> None:
    records = batch([b"x"], headers=[[("a", b"1")]])
    _letters(records, _poison([0]))
    assert records.headers == [[("a", b"1")]]


def test_error_headers_say_where_why_and_when() -> None:
    records = batch([b"good", b"bad"], start=41, partition=3)
    letters = _letters(records, {1: PoisonEvent("features", "expected ä, got ☃", "ValueError")})
    assert dict(letters.headers_of(0)) == {
        "error.stage": b"features",
        "error.type": b"ValueError",
        "error.message": "expected ä, got ☃".encode(),
        "error.topic": b"events",
        "error.partition": b"3",
        "error.offset": b"42",
        "error.pipeline": b"fraud",
        "error.model": b"fraud/3",
        "error.attempts": b"1",
        "error.first-failed-at": b"2026-01-01T00:00:00.250Z",
    }


def test_only_the_poison_rows_come_in_offset_order() -> None:
    letters = _letters(batch([b"0", b"1", b"2", b"3"]), _poison([3, 1]))
    assert list(letters.values) == [b"1", b"3"]


def test_attempts_count_up_and_the_first_failure_is_remembered() -> None:
    headers: Headers = [("trace", b"t")]
    for attempt in range(1, 4):
        letters = _letters(batch([b"x"], headers=[headers]), _poison([0]), NOW_S + attempt)
        headers = letters.headers_of(0)
        last = dict(headers)
        assert last["error.attempts"] == str(attempt).encode()
        assert last["error.first-failed-at"] == b"2026-01-01T00:00:01.250Z"
        assert last["trace"] == b"t"


@pytest.mark.parametrize("attempts", [b"", b"-3", b"many", b"\xff", b"9" * 5000, "٣".encode(), None])
def test_attempts_that_nobody_can_read_start_again(attempts: bytes | None) -> None:
    letters = _letters(batch([b"x"], headers=[[("error.attempts", attempts)]]), _poison([0]))
    assert dict(letters.headers_of(0))["error.attempts"] == b"1"


def test_a_message_that_is_no_text_still_makes_a_letter() -> None:
    letters = _letters(batch([b"x"]), _poison([0], "got \ud800"))
    assert dict(letters.headers_of(0))["error.message"]


def test_a_message_that_repeats_the_value_does_not_make_the_letter_too_large_for_the_topic() -> None:
    letters = _letters(batch([b"x"]), _poison([0], "got " + "x" * 1_000_000))
    assert len(dict(letters.headers_of(0))["error.message"] or b"") <= 10_000


def _guard(**settings: object) -> DeadLetterGuard:
    return DeadLetterGuard(DeadLetter(**({"max_share": 1.0, "share_window": 10, "max_consecutive": 1000} | settings)))  # type: ignore[arg-type]


class Feed:
    """Hands a guard batch after batch of one partition; `X` is poison."""

    def __init__(self, guard: DeadLetterGuard, partition: int = 0) -> None:
        self._guard, self._partition, self._offset = guard, partition, 0

    def __call__(self, pattern: str) -> None:
        records = batch([b"x"] * len(pattern), start=self._offset, partition=self._partition)
        self._offset += len(pattern)
        self._guard.check(records, _poison(row for row, each in enumerate(pattern) if each == "X"))


def test_consecutive_poison_inside_a_batch_reaches_the_limit() -> None:
    Feed(_guard(max_consecutive=4))("..XXX..")
    with pytest.raises(DeadLetterLimit, match=r"max_consecutive = 4"):
        Feed(_guard(max_consecutive=4))("..XXXX.")


def test_consecutive_poison_is_counted_across_batches() -> None:
    feed = Feed(_guard(max_consecutive=4))
    feed("..XX")
    feed("X")
    with pytest.raises(DeadLetterLimit):
        feed("X....")


def test_one_good_record_between_begins_the_count_anew() -> None:
    feed = Feed(_guard(max_consecutive=4))
    for pattern in ("XXX", ".", "XXX", ".XX", "X.", "XXX."):
        feed(pattern)


def test_share_is_judged_once_the_window_is_full() -> None:
    feed = Feed(_guard(max_share=0.5))
    feed("XX.XX.X")  # 5 of 7: too early to say
    with pytest.raises(DeadLetterLimit, match=r"6 of the last 10 .*max_share = 0.5"):
        feed("X..")


def test_a_share_at_the_limit_is_allowed_and_what_is_long_ago_does_not_count() -> None:
    feed = Feed(_guard(max_share=0.5))
    for _ in range(50):
        feed("X.")
    for _ in range(20):
        feed(".....")
    for _ in range(5):
        feed("X.")
    with pytest.raises(DeadLetterLimit):
        for _ in range(10):
            feed("XX.")


def test_partitions_are_counted_apart() -> None:
    guard = _guard(max_consecutive=4, max_share=0.9)
    one, other = Feed(guard, 0), Feed(guard, 1)
    for _ in range(3):
        one("X.")
        other("...")
    one("XXX")
    other("XXX")
    with pytest.raises(DeadLetterLimit, match=r"events\[1\]"):
        other("X")


def test_the_message_names_the_place_an_example_and_what_happens() -> None:
    with pytest.raises(
        PipelineStopped, match=r"events\[0\]@0\.\.3.*@0 of key '.*' at decode: expected an event.*uncommitted: mend"
    ):
        Feed(_guard(max_consecutive=4))("XXXX")


def test_records_that_are_read_again_are_not_counted_twice() -> None:
    guard = _guard(max_consecutive=4)
    records = batch([b"x"] * 3, start=100)
    for _ in range(5):  # the same three, after every rebalance
        guard.check(records, _poison([0, 1, 2]))
