"""The fraud network's features against the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from models.fraud.features import FEATURES, features

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_names_are_in_the_order_of_the_columns() -> None:
    assert FEATURES == (
        "amount", "weekend", "night",
        "count_1d", "sum_1d", "mean_1d", "count_7d", "sum_7d", "mean_7d", "count_30d", "sum_30d", "mean_30d",
        "amount_ratio",
    )  # fmt: skip
    rows = features(np.array([3.0]), np.array([0]), np.arange(1.0, 10.0).reshape(1, 9))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[3, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, np.float32(3 / 9)]]


@pytest.mark.parametrize("year", [1899, 1969, 1970, 2024, 2026])
def test_weekend_and_night_follow_the_calendar(year: int) -> None:
    moments = [datetime(year, 12, 20, tzinfo=UTC) + timedelta(minutes=13 * i, milliseconds=i) for i in range(2000)]
    times = np.array([(moment - EPOCH) // timedelta(milliseconds=1) for moment in moments])
    rows = features(np.ones(2000), times, np.ones((2000, 9)))
    assert rows[:, 1].tolist() == [moment.weekday() >= 5 for moment in moments]
    assert rows[:, 2].tolist() == [moment.hour <= 6 for moment in moments]


def test_the_edges_of_a_night_and_a_weekend() -> None:
    friday = datetime(2026, 1, 2, 23, 59, 59, 999_000, tzinfo=UTC)
    moments = [friday + timedelta(milliseconds=1) * i for i in (0, 1, 25_200_000, 25_200_001, 172_800_000, 172_800_001)]
    times = np.array([(moment - EPOCH) // timedelta(milliseconds=1) for moment in moments])
    rows = features(np.ones(6), times, np.ones((6, 9)))
    assert rows[:, 1].tolist() == [0, 1, 1, 1, 1, 0]
    assert rows[:, 2].tolist() == [0, 1, 1, 0, 0, 1]


def test_the_ratio_is_one_where_the_mean_is_zero() -> None:
    windows = np.zeros((2, 9))
    windows[1, 8] = 4.0
    assert features(np.array([0.0, 10.0]), np.zeros(2, np.int64), windows)[:, 12].tolist() == [1.0, 2.5]
    assert features(np.empty(0), np.empty(0, np.int64), np.empty((0, 9))).shape == (0, 13)
