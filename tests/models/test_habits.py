"""What an event is compared with, against a plain reckoning over the whole stream."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fraud.habits import COLUMNS
from models.fraud.history import CardHistory

DAY_S = 86_400
START_S = 1_700_000_000

Event = tuple[bytes, int, float]  # card, seconds, amount


def reckon(stream: Sequence[Event]) -> NDArray[np.float64]:
    """Each event against its card's 64 latest before it that are at most 30 days older and not newer."""
    rows = []
    for offset, (card, now, amount) in enumerate(stream):
        known = [(t, a) for c, t, a in stream[:offset] if c == card and now - 30 * DAY_S < t <= now][-64:]
        if not known:
            rows.append([1, 0, 0, 0, 1, 1, 30 * DAY_S])
            continue
        amounts = np.array([a for _, a in known])
        habit = amounts.mean()
        for _ in range(3):
            habit = amounts[amounts <= 2.5 * habit].mean()
        fortnight = [a for t, a in known if t > now - 14 * DAY_S]
        rows.append(
            [
                amount / habit,
                (amount - amounts.mean()) / (amounts.std() + 0.2 * amounts.mean()),
                sum(a > 2.5 * habit for a in fortnight),
                max(fortnight, default=0) / habit,
                1 + sum(t > now - 60 for t, _ in known),
                1 + sum(t > now - 3600 for t, _ in known),
                now - max(t for t, _ in known),
            ]
        )
    return np.array(rows, np.float64)


def update(history: CardHistory, stream: Sequence[Event], offsets: Sequence[int]) -> NDArray[np.float64]:
    chosen = [stream[offset] for offset in offsets]
    habits = np.empty((len(chosen), len(COLUMNS)))
    history.update(
        [card for card, _, _ in chosen],
        np.array([1000 * time for _, time, _ in chosen], np.int64),
        np.array([amount for _, _, amount in chosen]),
        np.array(offsets, np.int64),
        habits,
    )
    return habits


def make_stream(seed: int, count: int = 700) -> list[Event]:
    """Few cards: bursts within a minute, pauses of days, times out of order by up to a day, large amounts."""
    dice = random.Random(seed)
    stream, now = [], START_S
    for _ in range(count):
        now += dice.choice((0, 1, 5, 59, 60, 700, 3600, 20_000, 90_000))
        late = dice.choice((0, 0, 0, 30, 4000, 80_000))
        amount = round(dice.lognormvariate(3, 0.5) * dice.choice((1, 1, 1, 1, 1, 5, 30)), 2)
        stream.append((dice.choice((b"a", b"a", b"a", b"b", b"c")), now - late, amount))
    return stream


@pytest.mark.parametrize("seed", range(6))
def test_events_are_compared_with_what_their_card_did_before(seed: int) -> None:
    stream = make_stream(seed)
    habits = update(CardHistory(), stream, range(len(stream)))
    np.testing.assert_allclose(habits, reckon(stream), rtol=1e-9, atol=1e-9)
    assert habits[:, COLUMNS.index("unusual_14d")].max() >= 2
    assert habits[:, COLUMNS.index("count_1m")].max() >= 2


def test_batches_make_no_difference() -> None:
    stream, dice = make_stream(7), random.Random(7)
    history, start, parts = CardHistory(), 0, []
    while start < len(stream):
        end = min(len(stream), start + dice.choice((1, 2, 40)))
        parts.append(update(history, stream, range(start, end)))
        history.changes()
        start = end
    np.testing.assert_array_equal(np.concatenate(parts), update(CardHistory(), stream, range(len(stream))))


@pytest.mark.parametrize("cut", [1, 60, 400])
def test_a_redelivery_to_a_restored_history_sees_what_it_saw_first(cut: int) -> None:
    stream = make_stream(8)
    first = CardHistory()
    expected = update(first, stream, range(len(stream)))
    restored = CardHistory()
    restored.merge(*first.changes())
    again = range(len(stream) - cut, len(stream))
    np.testing.assert_array_equal(update(restored, stream, again), expected[again.start :])


def test_equal_and_zero_amounts() -> None:
    stream = [(b"a", START_S + i, 0.0) for i in range(3)] + [(b"b", START_S + i, 20.0) for i in range(3)]
    habits = update(CardHistory(), stream, range(6))
    assert habits[2, :4].tolist() == [1, 0, 0, 0]  # there is no habit to compare with
    assert habits[5, :4].tolist() == [1, 0, 0, 1]
