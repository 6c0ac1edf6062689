"""One producer that sends nothing but poison does not stop the pipeline for the others; a fault of all still does."""

from __future__ import annotations

import logging

import pytest

from streams.broken_keys import LONGEST_BYTES, MOST_KEYS
from streams.deadletter import DeadLetterGuard
from streams.errors import DeadLetterLimit, PoisonEvent
from streams.settings import DeadLetter
from tests.streams.inmemory import batch

LIMIT = 20  # in a row; a key is broken from a quarter of it on
LIMITS = DeadLetter(max_consecutive=LIMIT, share_window=40)


class Feed:
    """Hands a guard record after record; a capital letter is a poison record of that key, a dot one without a key."""

    def __init__(self, limits: DeadLetter = LIMITS) -> None:
        self._guard = DeadLetterGuard(limits)
        self._offset = 0

    def __call__(self, pattern: str, partition: int = 0, at_once: int = 7) -> None:
        for start in range(0, len(pattern), at_once):
            part = pattern[start : start + at_once]
            keys = [None if each == "." else each.lower().encode() for each in part]
            poison = {
                row: PoisonEvent("decode", "expected a picture", "Foreign")
                for row, each in enumerate(part)
                if not each.islower()
            }
            self._guard.check(batch([b"x"] * len(part), keys=keys, start=self._offset, partition=partition), poison)
            self._offset += len(part)


def test_a_broken_key_stops_nobody_in_its_partition_or_in_others() -> None:
    feed = Feed()
    for _ in range(100):
        feed("AAAAAAAAAAb")
        feed("AAAAAAAA", partition=1)
        feed("cc", partition=2)


def test_a_key_that_is_mostly_poison_stops_nobody_either() -> None:
    feed = Feed()
    for _ in range(200):
        feed("AAAaab")


def test_where_nothing_else_is_good_it_is_not_the_key() -> None:
    with pytest.raises(DeadLetterLimit, match=f"max_consecutive = {LIMIT}"):
        Feed()("A" * LIMIT)


def test_what_was_good_before_says_nothing_of_what_fails_now() -> None:
    feed = Feed()
    feed("abc" * 10)
    with pytest.raises(DeadLetterLimit, match=f"max_consecutive = {LIMIT}"):
        feed("ABC" * LIMIT)


def test_keys_that_are_broken_by_themselves_do_not_hide_that_all_others_fail() -> None:
    feed = Feed(DeadLetter(max_consecutive=LIMIT, share_window=40, max_share=1.0))
    feed("AAb" * 20)
    with pytest.raises(DeadLetterLimit, match=r"poison events in a row .* of key '[b-d]'"):
        feed("ABACAD" * LIMIT)


def test_the_share_of_all_others_is_still_judged() -> None:
    feed = Feed(DeadLetter(max_consecutive=LIMIT, share_window=40, max_share=0.5))
    feed("AAb" * 20)
    with pytest.raises(DeadLetterLimit, match=r"max_share = 0\.5"):
        for number in range(100):
            feed("A" + chr(ord("一") + 2 * number) + chr(ord("一") + 2 * number + 1) + "b")  # two that come but once


def test_records_without_a_key_are_nobodys() -> None:
    with pytest.raises(DeadLetterLimit):
        for _ in range(10):
            Feed()("." * LIMIT + "b")


def test_a_key_is_well_again_after_as_many_good_ones_and_may_break_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streams.broken_keys")
    feed = Feed()
    for _ in range(2):
        feed("AAAAb" * 10)
        feed("a" * LIMIT)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["ERROR", "INFO"] * 2
    assert "events[0]@7: key 'a' sends more poison than not" in said[0][1]
    assert "expected a picture" in said[0][1]
    assert said[1][1] == "key 'a' is well again"


def test_what_is_read_again_after_a_rebalance_is_counted_anew(caplog: pytest.LogCaptureFixture) -> None:
    guard = DeadLetterGuard(LIMITS)
    rows = range(LIMIT // 4)
    records = batch([b"x"] * len(rows), keys=[b"a"] * len(rows), start=100)
    for again in range(20):
        guard.check(records, {row: PoisonEvent("decode", "expected a picture", "Foreign") for row in rows})
        guard.check(batch([b"x"], keys=[b"b"], partition=1, start=again), {})
    assert not caplog.records


def test_what_is_remembered_is_bounded_and_strays_do_not_take_a_broken_keys_place() -> None:
    guard = DeadLetterGuard(DeadLetter(max_consecutive=LIMIT, share_window=40, max_share=1.0))
    reason = PoisonEvent("decode", "expected a picture", "Foreign")
    for turn in range(10_000):
        stray = b"stray-%d" % turn + (b"x" * 100_000 if turn % 2 else b"")
        guard.check(batch([b"x"] * 3, keys=[stray, b"camera", b"b"], start=3 * turn), {0: reason, 1: reason})
        guard.check(batch([b"x"], keys=[b"camera"], start=turn, partition=1), {0: reason})
    for kept in (guard._broken._balances[0], guard._recent[0], guard._recent[1]):
        assert len(kept) <= MOST_KEYS
    assert sum(map(len, guard._broken._balances[0])) <= MOST_KEYS * LONGEST_BYTES
