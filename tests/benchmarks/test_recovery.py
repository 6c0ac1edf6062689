from __future__ import annotations

import io

import pytest
from rich.console import Console

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.recovery import FAULTS, JOIN, KILL, Outcome, longest_silence_s, table

MS = 1_000_000
FAULT_NS = 10_000 * MS


def arrivals(*spans: tuple[int, int]) -> list[int]:
    """An arrival every 10 ms in each span, in ms from the fault."""
    return [FAULT_NS + at * MS for begin, end in spans for at in range(begin, end, 10)]


def silence(*spans: tuple[int, int], settled_ms: int) -> float:
    return longest_silence_s(arrivals(*spans), FAULT_NS, FAULT_NS + settled_ms * MS)


def test_a_partition_that_flows_on_is_never_silent_for_long() -> None:
    assert silence((-500, 3_000), settled_ms=2_500) == pytest.approx(0.01)


def test_a_silence_that_begins_with_the_fault_counts_from_the_fault() -> None:
    # What comes in the first 40 ms was on its way when the worker was killed.
    assert silence((-500, 41), (2_000, 3_000), settled_ms=2_100) == pytest.approx(2.0)


def test_a_silence_that_begins_later_counts_from_its_own_beginning() -> None:
    # A second worker takes three seconds to start; only then do the partitions stop.
    assert silence((-500, 3_001), (3_300, 4_000), settled_ms=3_400) == pytest.approx(0.3)


def test_a_partition_that_was_silent_until_the_first_arrival() -> None:
    assert silence((-500, -100), (1_500, 1_600), settled_ms=1_200) == pytest.approx(1.5)


def test_what_comes_after_the_group_has_settled_is_another_matter() -> None:
    assert silence((-500, 1_000), (9_000, 9_100), settled_ms=500) == pytest.approx(0.01)


def test_a_partition_that_never_flows_again_has_no_number() -> None:
    with pytest.raises(ValueError, match="got none"):
        silence((-500, 100), settled_ms=200)


def test_the_answer_has_median_worst_and_bar() -> None:
    outcome = Outcome()
    outcome.seconds["at_least_once"][JOIN] += [0.2, 1.4, 0.3]
    answer = outcome.answer()
    assert answer["at_least_once"] == {
        "join": {"median_s": 0.3, "worst_s": 1.4, "bar_s": 1.0, "runs_s": [0.2, 1.4, 0.3]}
    }
    assert answer["exactly_once"] == {}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(outcome))
    text = console.export_text()
    assert "0.30 / 1.40 missed" in text
    assert "…" not in text


def test_every_fault_has_a_bar_and_a_kill_waits_for_the_session() -> None:
    limits = {fault.name: fault.limit_s for fault in FAULTS}
    assert list(limits.values()) == sorted(limits.values())
    assert limits[KILL] == 11.0
