"""Reasons in plain words with the value: what is most telling about one group of a transaction's features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from operator import itemgetter

from models.fraud.inputs import NIGHT_ENDS

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
WEEK_S, MONTH_S = 7 * DAY_S, 30 * DAY_S  # a month is the longest window: what is usual comes from it
NEVER_S = 1e8  # three years without a transaction: there is none on record
NEVER_D = 99.0  # a terminal's ages end here
UNUSUAL = 2.5  # times a card's habit: what unusual_14d counts
RISEN = 1.5  # a mean amount over a day or a week by the one over 30 days
DEVIATING = 2.0  # deviations from a card's habit
LEAST_SHOWN = 0.001  # of a number that is not 0


@dataclass(frozen=True, slots=True)
class Phrase:
    """A group of features, and what finds words for it from the values of the features that its parameters name.

    It may read features of other groups too, to say what is usual.
    """

    features: tuple[str, ...]
    say: Callable[..., str]


class Phrases:
    """Says the most telling fact of a group of features about a row: a pure function of that row, on any thread.

    The rules that choose the fact are fixed, and stand at each group's function. What is usual comes from 30 days of
    the same card or terminal, without what is compared with it. Numbers are rounded for people.

    Args:
        columns: Where each feature is in a row; features that no phrase reads may be among them.

    Raises: ValueError where a feature that a phrase reads has no column.

    Example:
        >>> row = {name: 0.0 for phrase in PHRASES.values() for name in phrase.features}
        >>> row |= {"amount": 431.2, "amount_ratio": 6.1, "since_last_s": 300.0, "count_1m": 1.0}
        >>> row |= {"count_1h": 8.0, "count_1d": 9.0, "count_7d": 54.0, "count_30d": 224.0}
        >>> phrases = Phrases({name: column for column, name in enumerate(row)})
        >>> phrases("pace", list(row.values()))
        '8 transactions in the last hour, usually 0.3'
        >>> phrases("amount", list(row.values()))
        "amount 431.20, 6.1 times this card's habit"
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self._reads: dict[str, tuple[Callable[..., str], Callable[[Sequence[float]], tuple[float, ...]]]] = {}
        for group, phrase in PHRASES.items():
            names = tuple(inspect.signature(phrase.say).parameters)
            missing = [name for name in names if name not in columns]
            if missing:
                raise ValueError(
                    f"finding words for {group!r}: expected columns of {list(names)!r}, got none of {missing!r}"
                )
            self._reads[group] = phrase.say, itemgetter(*(columns[name] for name in names))

    def __call__(self, group: str, row: Sequence[float]) -> str:
        """The phrase of a group, one of `PHRASES`, for one row of raw, finite features, d of them.

        Raises: KeyError for a group that is not there.
        """
        say, read = self._reads[group]
        return say(*read(row))


def _amount(
    amount: float,
    amount_ratio: float,
    amount_deviation: float,
    unusual_14d: float,
    largest_14d: float,
    mean_1d: float,
    mean_7d: float,
    mean_30d: float,
    count_30d: float,
) -> str:
    """The first that holds of: there is nothing to compare with; this amount is unusual; some in 14 days were; the mean
    of the last day or week, the higher one, has risen; this amount deviates. Else just how this amount compares with
    the habit.
    """
    if count_30d <= 1:
        return f"amount {amount:.2f}, with no earlier one in 30 days to compare with"
    if amount_ratio >= UNUSUAL:
        return _against_habit(amount, amount_ratio)
    if unusual_14d >= 1:
        amounts = f"{_count(unusual_14d, 'amount')} above {UNUSUAL} times this card's habit in 14 days"
        return f"{amounts}, the largest {_number(largest_14d)} times"
    recent, window = max((mean_1d, "day"), (mean_7d, "7 days"))
    if recent >= RISEN * mean_30d > 0:
        return f"mean amount {recent:.2f} in the last {window}, {mean_30d:.2f} in 30 days"
    if abs(amount_deviation) >= DEVIATING:
        side = "above" if amount_deviation > 0 else "below"
        return f"amount {amount:.2f}, {_number(abs(amount_deviation))} deviations {side} this card's habit"
    return _against_habit(amount, amount_ratio)


def _against_habit(amount: float, ratio: float) -> str:
    times = _number(ratio)
    return f"amount {amount:.2f}, {'about' if times == '1' else f'{times} times'} this card's habit"


def _time(weekend: float, night: float) -> str:
    hours = f"00:00-{NIGHT_ENDS:02}:00" if night else f"{NIGHT_ENDS:02}:00-24:00"
    return f"at {hours} UTC on a {'weekend' if weekend else 'weekday'}"


def _pace(
    count_1m: float, count_1h: float, since_last_s: float, count_1d: float, count_7d: float, count_30d: float
) -> str:
    """That there is no other transaction in 30 days; else what surprises most: how many there are in the last minute,
    hour, day or week, if more than usual, or how long ago the last one was, if longer. Else how many in the last day.

    References: M. Kulldorff: A Spatial Scan Statistic. Communications in Statistics 26(6), 1997 (of windows that
    overlap, the one with the largest likelihood ratio).
    """
    if count_30d <= 1:
        if since_last_s >= NEVER_S:
            return "the card's first transaction on record"
        return f"the card's first transaction in {_duration(since_last_s)}"
    most, telling = 0.0, (count_1d, DAY_S, "day")
    for window in (
        (count_1m, MINUTE_S, "minute"),
        (count_1h, HOUR_S, "hour"),
        (count_1d, DAY_S, "day"),
        (count_7d, WEEK_S, "7 days"),
    ):
        number, length_s, _ = window
        others = number - 1  # that this transaction is there is no surprise
        if (
            others > 0
            and others > (expected := _expected(number, count_30d, length_s))
            and (surprise := _surprise(others, expected)) > most
        ):
            most, telling = surprise, window
    gap_s = MONTH_S / count_30d
    if max(most, 1.0) < since_last_s / gap_s and since_last_s < MONTH_S:  # the surprise of none in that time
        return f"{_duration(since_last_s)} since the card's last transaction, usually {_duration(gap_s)}"
    number, length_s, when = telling
    return f"{_count(number, 'transaction')} in the last {when}, usually {_usual(number, count_30d, length_s)}"


def _terminal_traffic(terminal_count_1d: float, terminal_count_7d: float, terminal_count_30d: float) -> str:
    """That there was none in the 30 days until a week ago; else the number that surprises most, high or low: in the
    week before the last one, or on the day a week ago.
    """
    if terminal_count_30d < 1:
        return "no transaction at this terminal in the 30 days until a week ago"
    week = _surprise(terminal_count_7d, _expected(terminal_count_7d, terminal_count_30d, WEEK_S))
    day = _surprise(terminal_count_1d, _expected(terminal_count_1d, terminal_count_30d, DAY_S))
    if week >= day:
        number, length_s, when = terminal_count_7d, WEEK_S, "7 to 14 days ago"
    else:
        number, length_s, when = terminal_count_1d, DAY_S, "a week ago"
    usual = _usual(number, terminal_count_30d, length_s)
    return f"{_count(number, 'transaction')} at this terminal {when}, usually {usual}"


def _terminal_fraud(
    terminal_count_1d: float,
    terminal_count_7d: float,
    terminal_count_30d: float,
    terminal_fraud_share_1d: float,
    terminal_fraud_share_7d: float,
    terminal_fraud_share_30d: float,
    terminal_fraud_run: float,
    terminal_run_age_d: float,
    terminal_last_fraud_d: float,
    terminal_last_genuine_d: float,
) -> str:
    """Of the frauds at the end of what is known and the delayed windows of a day, 7 and 30 days: the one with the
    highest share of fraud, two genuine transactions added, so that few do not outdo many. Where all are free of fraud,
    the first that is known of: an older fraud; genuine transactions in 30 days; an older genuine one; nothing.
    """
    frauds, known, when = max(
        (terminal_fraud_run, terminal_fraud_run, ""),
        (round(terminal_fraud_share_1d * terminal_count_1d), terminal_count_1d, "a week ago"),
        (round(terminal_fraud_share_7d * terminal_count_7d), terminal_count_7d, "7 to 14 days ago"),
        (round(terminal_fraud_share_30d * terminal_count_30d), terminal_count_30d, "7 to 37 days ago"),
        key=lambda window: window[0] / (window[1] + 2),
    )
    if frauds and when:
        were = "was" if frauds == 1 else "were"
        return f"{frauds:.0f} of {_count(known, 'transaction')} at this terminal {when} {were} fraud"
    if frauds == 1:
        return f"the last known transaction at this terminal was fraud, {_ago(terminal_last_fraud_d)}"
    if frauds:
        run = f"the last {frauds:.0f} known transactions at this terminal were fraud"
        return f"{run}, the first {_ago(terminal_run_age_d)}"
    if terminal_last_fraud_d < NEVER_D:
        return f"the last known fraud at this terminal was {_ago(terminal_last_fraud_d)}"
    if terminal_count_30d:
        return f"no fraud in {_count(terminal_count_30d, 'transaction')} at this terminal 7 to 37 days ago"
    if terminal_last_genuine_d < NEVER_D:
        return f"the last known transaction at this terminal was genuine, {_ago(terminal_last_genuine_d)}"
    return "nothing is known yet of transactions at this terminal"


PHRASES: dict[str, Phrase] = {
    "amount": Phrase(
        ("amount", "amount_ratio", "amount_deviation", "unusual_14d", "largest_14d", "mean_1d", "mean_7d", "mean_30d"),
        _amount,
    ),
    "time": Phrase(("weekend", "night"), _time),
    "pace": Phrase(("count_1m", "count_1h", "since_last_s", "count_1d", "count_7d", "count_30d"), _pace),
    "terminal_traffic": Phrase(("terminal_count_1d", "terminal_count_7d", "terminal_count_30d"), _terminal_traffic),
    "terminal_fraud": Phrase(
        (
            "terminal_fraud_share_1d",
            "terminal_fraud_share_7d",
            "terminal_fraud_share_30d",
            "terminal_fraud_run",
            "terminal_run_age_d",
            "terminal_last_fraud_d",
            "terminal_last_genuine_d",
        ),
        _terminal_fraud,
    ),
}


def _expected(number: float, month: float, length_s: int) -> float:
    """What the rest of the 30 days lets expect in a window of them, which has this number of transactions; half a
    transaction is added there, so that it is above 0.
    """
    return (max(month - number, 0.0) + 0.5) * length_s / (MONTH_S - length_s)


def _surprise(number: float, expected: float) -> float:
    """The Poisson log likelihood ratio of this number against what is expected; 0 where they are equal."""
    return expected - number + (number * log(number / expected) if number > 0 else 0.0)


def _usual(number: float, month: float, length_s: int) -> str:
    """How many there are in as long a time as this window's, in the rest of the 30 days."""
    return _number((month - number) * length_s / (MONTH_S - length_s)) if month > number else "none"


def _number(value: float) -> str:
    """A number >= 0 with a decimal below 100, none where it is 0, and with one significant digit below 0.1.

    >>> [_number(value) for value in (0, 0.0004, 0.031, 0.29, 1.0, 6.14, 99.96, 431.2)]
    ['0', 'under 0.001', '0.03', '0.3', '1', '6.1', '100', '431']
    """
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 0.0951 or value == 0:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.1g}" if value >= LEAST_SHOWN else f"under {LEAST_SHOWN}"


def _count(count: float, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:.0f} {noun}s"


def _duration(seconds: float) -> str:
    """In the largest unit that it is at least 1.5 of.

    >>> [_duration(seconds) for seconds in (1, 89, 5_000, 86_400, 200_000)]
    ['1 second', '89 seconds', '83.3 minutes', '24 hours', '2.3 days']
    """
    units = (DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")
    length_s, unit = next((unit for unit in units if seconds >= 1.5 * unit[0]), (1, "second"))
    number = _number(seconds / length_s)
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


def _ago(days: float) -> str:
    return f"{_duration(days * DAY_S)} ago" if days < NEVER_D else f"{NEVER_D:.0f} days ago or more"
