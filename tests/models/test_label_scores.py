"""Scores that wait for labels: which are held, which are late, which cards are known; by hand, one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from models.fraud.label_scores import ScoreHistory

DAY_MS = 86_400_000
NOW_MS = 1_767_225_600_000
MEMORY_MS, WAIT_MS = 45 * DAY_MS, 7 * DAY_MS


@dataclass
class Scores:
    """n scores of one partition, in offset order."""

    partition: int
    offsets: np.ndarray
    transactions: np.ndarray
    cards: np.ndarray
    times: np.ndarray
    scores: np.ndarray

    def rows(self, chosen: slice) -> tuple[np.ndarray, ...]:
        flagged, verdicts = self.scores > 0.5, (self.transactions % np.uint64(3)).astype(np.uint32)
        columns = (self.offsets, self.transactions, self.cards, self.times, self.scores, flagged, verdicts)
        return tuple(column[chosen] for column in columns)


def draw_scores(seed: int, partition: int, count: int = 800) -> Scores:
    """Of four months, a few far behind the others, a few transactions twice."""
    draw = np.random.default_rng([seed, partition])
    times = np.sort(NOW_MS - draw.integers(0, 120 * DAY_MS, count))
    late = draw.random(count) < 0.1
    times[late] -= draw.integers(0, 12 * DAY_MS, int(late.sum()))
    transactions = draw.integers(0, 2**63, count, np.uint64)
    again = np.flatnonzero(draw.random(count) < 0.05)
    transactions[again] = transactions[np.maximum(again - 10, 0)]
    offsets = np.cumsum(draw.integers(1, 3, count))
    return Scores(partition, offsets, transactions, draw.integers(0, 60, count, np.uint64), times,
                  draw.random(count).astype(np.float32))  # fmt: skip


@dataclass
class ByHand:
    """The same, from the definitions."""

    scores: dict[int, tuple[int, float, int, int, bool, bool]] = field(default_factory=dict)
    cards: dict[int, int] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)

    def append(self, scores: Scores) -> None:
        for offset in range(len(scores.offsets)):
            key, time = int(scores.transactions[offset]), int(scores.times[offset])
            late = time < self.newest.get(scores.partition, time) - WAIT_MS
            self.newest[scores.partition] = max(self.newest.get(scores.partition, time), time)
            score = float(scores.scores[offset])
            row = (time, score, key % 3, scores.partition, score > 0.5, late)
            self.scores.setdefault(key, row)
            card = int(scores.cards[offset])
            self.cards[card] = max(self.cards.get(card, time), time)


@pytest.mark.parametrize("size", [1, 13, 800])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_is_what_the_definitions_say(seed: int, size: int) -> None:
    history, expected = ScoreHistory(MEMORY_MS, WAIT_MS, least=0), ByHand()
    both = [draw_scores(seed, 0), draw_scores(seed, 1)]
    for start in range(0, 800, size):
        for scores in both:
            history.append(scores.partition, *scores.rows(slice(start, start + size)))
            history.append(scores.partition, *scores.rows(slice(max(0, start - 20), start + size)))  # once more
    for scores in both:
        expected.append(scores)
    newest = max(expected.newest.values())
    assert history.newest_ms == newest
    assert [history.newest_of(partition) for partition in (0, 1, 2)] == [*expected.newest.values(), None]
    young = {key: row for key, row in expected.scores.items() if row[0] >= newest - MEMORY_MS}
    held, rows = history.find(np.array(list(young), np.uint64))
    assert held.all()
    assert [tuple(row) for row in rows.tolist()] == list(young.values())
    assert any(row[5] for row in young.values())
    assert len(history) - len(young) <= 0.05 * len(expected.scores)  # what is older goes at the next sweep
    assert history.nbytes == 28 * len(history) + 16 * len(history._cards)
    cards = np.arange(70, dtype=np.uint64)
    for card, known in zip(cards.tolist(), history.knows(cards).tolist(), strict=True):
        assert known or expected.cards.get(card, 0) < newest - MEMORY_MS
        assert not known or card in expected.cards
    for partitions in ((0,), (1,), (0, 1), ()):
        after, until = newest - 14 * DAY_MS, newest - 7 * DAY_MS
        due, _ = history.between(after, until, partitions)
        assert sorted(due.tolist()) == sorted(
            key for key, row in young.items() if after < row[0] <= until and row[3] in partitions
        )


def test_cards_and_scores_are_forgotten() -> None:
    history, one = ScoreHistory(MEMORY_MS, WAIT_MS, least=0), np.ones(1, np.uint64)
    for day in range(200):
        history.append(
            0, np.array([day]), one * np.uint64(day), one * np.uint64(day // 10), np.array([NOW_MS + day * DAY_MS]),
            np.zeros(1, np.float32), np.zeros(1, np.bool_), np.zeros(1, np.uint32),
        )  # fmt: skip
    assert 46 <= len(history) <= 47
    assert history.knows(np.array([10, 14, 16, 19], np.uint64)).tolist() == [False, False, True, True]


def append(history: ScoreHistory, *times: int, start: int = 0, card: int = 1) -> None:
    """One score of one card at each time, transactions named by their offsets."""
    count = len(times)
    offsets = np.arange(start, start + count)
    history.append(
        0, offsets, offsets.astype(np.uint64), np.full(count, card, np.uint64), np.array(times, np.int64),
        np.zeros(count, np.float32), np.zeros(count, np.bool_), np.zeros(count, np.uint32),
    )  # fmt: skip


def test_bounds_are_where_they_are_said_to_be() -> None:
    history = ScoreHistory(MEMORY_MS, WAIT_MS, least=0)
    append(history, NOW_MS, NOW_MS - WAIT_MS, NOW_MS - WAIT_MS - 1, NOW_MS - MEMORY_MS, NOW_MS - MEMORY_MS - 1)
    held, rows = history.find(np.arange(5, dtype=np.uint64))
    assert held.tolist() == [True, True, True, True, False]
    assert rows["late"].tolist() == [False, False, True, True, False]
    due, _ = history.between(NOW_MS - WAIT_MS - 1, NOW_MS - WAIT_MS, [0])
    assert due.tolist() == [1]


def test_a_card_is_known_by_its_newest_transaction_even_if_an_older_one_comes_after_it() -> None:
    history = ScoreHistory(MEMORY_MS, WAIT_MS, least=0)
    append(history, NOW_MS, NOW_MS - 44 * DAY_MS, NOW_MS - 43 * DAY_MS)
    append(history, NOW_MS - 42 * DAY_MS, start=3)
    append(history, NOW_MS + 20 * DAY_MS, start=4, card=2)
    assert len(history) == 2
    assert history.knows(np.array([1, 2], np.uint64)).all()


def test_the_newest_scores_are_held_however_old_they_are() -> None:
    history = ScoreHistory(MEMORY_MS, WAIT_MS, least=100)
    for day in range(400):  # of a quiet stream
        append(history, NOW_MS + day * DAY_MS, start=day)
    assert 100 <= len(history) < 110
    assert history.between(0, NOW_MS + 400 * DAY_MS, [0])[1]["event_time_ms"].max() == NOW_MS + 399 * DAY_MS
    busy = ScoreHistory(MEMORY_MS, WAIT_MS, least=10)
    for day in range(400):
        append(busy, NOW_MS + day * DAY_MS, start=day)
    assert 45 <= len(busy) < 50
