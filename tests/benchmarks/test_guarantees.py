from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.bars import Bar
from benchmarks.contenders.contract import Measurement
from benchmarks.guarantees import AT_LEAST_ONCE, EXACTLY_ONCE, Found, Outcome, table
from benchmarks.schedule import Latencies

INTERVAL_S = 0.1


def eps(*rates: int | None) -> list[Measurement | None]:
    return [None if rate is None else Measurement(rate, 1.0, 5.0) for rate in rates]


def p99(*values: float | None) -> list[Latencies | None]:
    return [None if value is None else Latencies(value / 2, value, value, 5_000, 0) for value in values]


def outcome() -> Outcome:
    # The machine halves its speed between the rounds: ratio and difference must not notice.
    few = Found(
        {AT_LEAST_ONCE: eps(200, 100, None), EXACTLY_ONCE: eps(160, 80, 90)},
        {AT_LEAST_ONCE: p99(10, 20, None), EXACTLY_ONCE: p99(110, 120, 500)},
    )
    many = Found(
        {AT_LEAST_ONCE: eps(100), EXACTLY_ONCE: eps(50)},
        {AT_LEAST_ONCE: p99(10), EXACTLY_ONCE: p99(200)},
    )
    return Outcome({4: few, 64: many})


def test_the_answer_is_guarantee_then_partitions() -> None:
    assert outcome().answer() == {
        AT_LEAST_ONCE: {
            "4": {"eps": 150.0, "p50_ms": 7.5, "p99_ms": 15.0},
            "64": {"eps": 100.0, "p50_ms": 5.0, "p99_ms": 10.0},
        },
        EXACTLY_ONCE: {
            "4": {"eps": 90.0, "p50_ms": 60.0, "p99_ms": 120.0},
            "64": {"eps": 50.0, "p50_ms": 100.0, "p99_ms": 200.0},
        },
    }


def test_what_was_never_measured_is_left_out() -> None:
    found = Outcome(
        {4: Found({AT_LEAST_ONCE: eps(None), EXACTLY_ONCE: eps(7)}, {AT_LEAST_ONCE: p99(1), EXACTLY_ONCE: []})}
    )
    assert found.answer() == {AT_LEAST_ONCE: {}, EXACTLY_ONCE: {}}
    assert {bar.verdict for bar in found.bars(INTERVAL_S)} == {"not measured"}


def test_bars_compare_rounds_and_rates_are_held_to_one_on_few_partitions_only() -> None:
    ratio, few, many = outcome().bars(INTERVAL_S)
    assert (ratio.found, ratio.limit, ratio.verdict) == (0.8, 0.7, "met")
    assert (few.found, few.limit, few.verdict) == (100.0, 115.0, "met")
    assert (many.found, many.verdict) == (190.0, "missed")


def test_a_sender_that_fell_behind_spoils_the_verdict() -> None:
    found = outcome()
    late = found.found[4].latency[EXACTLY_ONCE][1]
    assert late is not None
    found.found[4].latency[EXACTLY_ONCE][1] = replace(late, behind=True)
    assert [bar.verdict for bar in found.bars(INTERVAL_S)] == ["met", "no verdict", "missed"]


def test_the_table_has_a_row_for_each_and_fits_a_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(outcome()))
    text = console.export_text()
    assert all(word in text for word in ("0.80", "0.50", "+100.0", "+190.0", "partitions", "extra"))
    assert "…" not in text


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar("a", 1.0, 1.0), "met"),
        (Bar("a", 1.1, 1.0), "missed"),
        (Bar("a", 0.7, 0.7, at_least=True), "met"),
        (Bar("a", 0.6, 0.7, at_least=True), "missed"),
        (Bar("a", math.nan, 0.7, at_least=True), "not measured"),
        (Bar("a", 0.5, 1.0, spoiled=True), "no verdict"),
    ],
)
def test_a_bar_is_met_or_missed(bar: Bar, verdict: str) -> None:
    assert bar.verdict == verdict
