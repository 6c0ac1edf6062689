from __future__ import annotations

import re
from math import exp, lgamma, log

import numpy as np
import pytest

from models.fraud.phrases import PHRASES, Phrases

FEATURES = [name for phrase in PHRASES.values() for name in phrase.features] + [
    "terminal_fraud_share_of_another_kind",  # a feature that no phrase reads
]
COLUMNS = {name: column for column, name in enumerate(FEATURES)}
ORDINARY = {
    "amount": 68.0,
    "amount_ratio": 0.9,
    "amount_deviation": -0.3,
    "largest_14d": 1.4,
    "mean_1d": 70.0,
    "mean_7d": 75.0,
    "mean_30d": 72.0,
    "count_1m": 1,
    "count_1h": 1,
    "count_1d": 3,
    "count_7d": 21,
    "count_30d": 90,
    "since_last_s": 20_000,
    "terminal_count_1d": 1,
    "terminal_count_7d": 7,
    "terminal_count_30d": 30,
    "terminal_run_age_d": 99,
    "terminal_last_fraud_d": 99,
    "terminal_last_genuine_d": 8,
}


def phrase(group: str, **values: float) -> str:
    row = dict.fromkeys(FEATURES, 0.0) | ORDINARY | values
    return Phrases(COLUMNS)(group, np.array([row[name] for name in FEATURES], np.float32))


UNUSUAL = {"amount": 431.2, "amount_ratio": 6.1}
EARLIER = {"unusual_14d": 3, "largest_14d": 12.04}
RISEN = {"mean_1d": 210.0, "mean_7d": 110.0}
DEVIATING = {"amount_deviation": 2.34}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "amount 68.00, 0.9 times this card's habit"),
        (UNUSUAL | EARLIER | RISEN | DEVIATING, "amount 431.20, 6.1 times this card's habit"),
        (EARLIER | RISEN, "3 amounts above 2.5 times this card's habit in 14 days, the largest 12 times"),
        (EARLIER | {"unusual_14d": 1}, "1 amount above 2.5 times this card's habit in 14 days, the largest 12 times"),
        (RISEN | DEVIATING, "mean amount 210.00 in the last day, 72.00 in 30 days"),
        (RISEN | {"mean_1d": 60.0}, "mean amount 110.00 in the last 7 days, 72.00 in 30 days"),
        (DEVIATING, "amount 68.00, 2.3 deviations above this card's habit"),
        ({"amount_deviation": -4.0}, "amount 68.00, 4 deviations below this card's habit"),
        ({"amount": 0.01, "amount_ratio": 0.0001}, "amount 0.01, under 0.001 times this card's habit"),
        ({"amount": 2.0, "amount_ratio": 0.0283}, "amount 2.00, 0.03 times this card's habit"),
        ({"amount": 9e6, "amount_ratio": 123_456.7}, "amount 9000000.00, 123457 times this card's habit"),
        ({"amount_ratio": 1.04}, "amount 68.00, about this card's habit"),
        ({"count_30d": 1, "amount_ratio": 1.0}, "amount 68.00, with no earlier one in 30 days to compare with"),
        ({"mean_1d": 0, "mean_7d": 0, "mean_30d": 0}, "amount 68.00, 0.9 times this card's habit"),
    ],
)
def test_habit(values: dict[str, float], expected: str) -> None:
    assert phrase("amount", **values) == expected


@pytest.mark.parametrize(
    ("weekend", "night", "expected"),
    [
        (1, 1, "at 00:00-07:00 UTC on a weekend"),
        (0, 1, "at 00:00-07:00 UTC on a weekday"),
        (1, 0, "at 07:00-24:00 UTC on a weekend"),
        (0, 0, "at 07:00-24:00 UTC on a weekday"),
    ],
)
def test_time(weekend: float, night: float, expected: str) -> None:
    assert phrase("time", weekend=weekend, night=night) == expected


BURST = {"count_1h": 8, "count_1d": 9, "count_7d": 54, "count_30d": 224, "since_last_s": 300}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BURST, "8 transactions in the last hour, usually 0.3"),
        (BURST | {"count_1m": 2}, "8 transactions in the last hour, usually 0.3"),
        (BURST | {"count_1m": 5}, "5 transactions in the last minute, usually 0.005"),
        ({"count_1d": 20, "count_7d": 36, "count_30d": 107}, "20 transactions in the last day, usually 3"),
        ({"count_7d": 63, "count_30d": 132}, "63 transactions in the last 7 days, usually 21"),
        ({}, "3 transactions in the last day, usually 3"),
        ({"count_1d": 1}, "1 transaction in the last day, usually 3.1"),
        (
            {"count_1h": 4, "count_1d": 4, "count_7d": 4, "count_30d": 4, "since_last_s": 100},
            "4 transactions in the last hour, usually none",
        ),
        ({"count_1d": 1, "since_last_s": 200_000}, "2.3 days since the card's last transaction, usually 8 hours"),
        ({"count_30d": 1, "since_last_s": 1e9}, "the card's first transaction on record"),
        ({"count_30d": 1, "since_last_s": 45 * 86_400}, "the card's first transaction in 45 days"),
        (
            {"count_30d": 2, "count_7d": 1, "count_1d": 1, "since_last_s": 1e9},
            "1 transaction in the last day, usually 0.03",
        ),
    ],
)
def test_pace(values: dict[str, float], expected: str) -> None:
    assert phrase("pace", **values) == expected


def test_pace_tells_the_window_that_is_least_likely() -> None:
    def log_likelihood(number: int, mean: float) -> float:
        return number * log(mean) - mean - lgamma(number + 1)

    rng = np.random.default_rng(0)
    windows = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "7 days": 7.0}
    told = []
    for _ in range(500):
        minute, hour, day, week, month = np.cumsum(rng.poisson(np.exp(rng.uniform(-3, 3, 5)))) + 1
        values = {"count_1m": minute, "count_1h": hour, "count_1d": day, "count_7d": week, "count_30d": month + 1}
        surprises = {"day": 0.0}
        for (name, days), number in zip(windows.items(), (minute, hour, day, week), strict=True):
            mean, others = (month + 1 - number + 0.5) * days / (30 - days), int(number) - 1
            if others > mean:
                surprises[name] = log_likelihood(others, others) - log_likelihood(others, mean)
        expected = max(surprises, key=lambda name: surprises[name])
        told.append(expected)
        assert f" in the last {expected}, usually " in phrase("pace", since_last_s=1, **values)
    assert set(told) == set(windows)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"terminal_count_7d": 25}, "25 transactions at this terminal 7 to 14 days ago, usually 1.5"),
        ({"terminal_count_1d": 7}, "7 transactions at this terminal a week ago, usually 0.8"),
        (
            {"terminal_count_7d": 30},
            "30 transactions at this terminal 7 to 14 days ago, usually none",
        ),
        (
            {"terminal_count_1d": 0, "terminal_count_7d": 0, "terminal_count_30d": 0},
            "no transaction at this terminal in the 30 days until a week ago",
        ),
    ],
)
def test_terminal_traffic(values: dict[str, float], expected: str) -> None:
    assert phrase("terminal_traffic", **values) == expected


DAY = {"terminal_count_1d": 12, "terminal_fraud_share_1d": 11 / 12}
WEEK = {"terminal_count_7d": 14, "terminal_fraud_share_7d": 12 / 14}
MONTH = {"terminal_count_30d": 50, "terminal_fraud_share_30d": 20 / 50}
UNKNOWN = {"terminal_count_1d": 0, "terminal_count_7d": 0, "terminal_count_30d": 0}


def run(frauds: int) -> dict[str, float]:
    return {"terminal_fraud_run": frauds, "terminal_run_age_d": 9.53, "terminal_last_fraud_d": 7.2}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (DAY | WEEK | MONTH | run(4), "11 of 12 transactions at this terminal a week ago were fraud"),
        (WEEK | MONTH | run(1), "12 of 14 transactions at this terminal 7 to 14 days ago were fraud"),
        (MONTH, "20 of 50 transactions at this terminal 7 to 37 days ago were fraud"),
        (
            MONTH | {"terminal_fraud_share_30d": 0.02},
            "1 of 50 transactions at this terminal 7 to 37 days ago was fraud",
        ),
        (
            DAY | WEEK | MONTH | run(11),
            "the last 11 known transactions at this terminal were fraud, the first 9.5 days ago",
        ),
        (MONTH | run(2), "the last 2 known transactions at this terminal were fraud, the first 9.5 days ago"),
        (
            MONTH | run(2) | {"terminal_run_age_d": 99},
            "the last 2 known transactions at this terminal were fraud, the first 99 days ago or more",
        ),
        (UNKNOWN | run(1), "the last known transaction at this terminal was fraud, 7.2 days ago"),
        ({"terminal_last_fraud_d": 61}, "the last known fraud at this terminal was 61 days ago"),
        ({}, "no fraud in 30 transactions at this terminal 7 to 37 days ago"),
        (
            UNKNOWN | {"terminal_last_genuine_d": 44},
            "the last known transaction at this terminal was genuine, 44 days ago",
        ),
        (UNKNOWN | {"terminal_last_genuine_d": 99}, "nothing is known yet of transactions at this terminal"),
    ],
)
def test_terminal_fraud(values: dict[str, float], expected: str) -> None:
    assert phrase("terminal_fraud", **values) == expected


def test_any_row_has_a_phrase_for_every_group_wherever_its_columns_are() -> None:
    rng = np.random.default_rng(0)
    here = Phrases(COLUMNS)
    order = rng.permutation(len(FEATURES))
    there = Phrases({name: int(order[column]) for name, column in COLUMNS.items()})
    for _ in range(300):
        row = np.where(rng.random(len(FEATURES)) < 0.3, 0, exp(rng.uniform(-8, 21)) * rng.random(len(FEATURES)))
        if rng.random() < 0.5:
            row = np.floor(row)
        elsewhere = np.empty_like(row)
        elsewhere[order] = row
        for group in PHRASES:
            said = here(group, row.tolist())
            assert said == there(group, elsewhere) == here(group, row)
            assert said
            assert not re.search(r"nan|inf\b|\de[+-]\d", said)


def test_a_feature_is_in_one_group() -> None:
    features = [name for phrase in PHRASES.values() for name in phrase.features]
    assert len(set(features)) == len(features)


def test_a_feature_without_a_column_is_refused() -> None:
    columns = {name: column for name, column in COLUMNS.items() if name != "since_last_s"}
    with pytest.raises(ValueError, match=r"finding words for 'pace': expected .*, got none of \['since_last_s'\]"):
        Phrases(columns)


def test_a_group_that_is_not_there_has_no_phrase() -> None:
    with pytest.raises(KeyError):
        phrase("weather")
