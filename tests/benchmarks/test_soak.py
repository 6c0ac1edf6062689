from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from tests.conftest import Kafka

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks import soak
from benchmarks.soak import CARDS, Outcome, Sample, cards_for, slope_in_10_min, table


def outcome(minutes: float, growth_mb_per_min: float = 0.0, files: int = 20, done_share: float = 1.0) -> Outcome:
    """Samples of a worker that doubles its memory in the warm-up, and then grows steadily."""
    found = Outcome("at_least_once", minutes, rate=1_000)
    for number in range(1, int(6 * minutes) + 1):
        at_s = 10.0 * number
        warm = min(1.0, at_s / soak.warm_up_s(60 * minutes))
        rss_mb = 100 + 100 * warm + growth_mb_per_min * at_s / 60
        files_now = 20 if at_s < 60 * minutes else files
        found.samples.append(Sample(at_s, rss_mb, 50.0, files_now, 9, 20, 10, int(1_000 * done_share * at_s)))
    return found


def verdicts(found: Outcome) -> dict[str, str]:
    answer = found.answer()["verdict"]
    assert isinstance(answer, dict)
    return answer


def test_a_slope_is_in_ten_minutes() -> None:
    assert slope_in_10_min([0, 60, 120], [5.0, 6.0, 7.0]) == pytest.approx(10.0)
    assert slope_in_10_min([0, 60, 120, 180], [5.0, 9.0, 1.0, 5.0]) == pytest.approx(-8.0)


def test_the_warm_up_is_no_leak() -> None:
    found = outcome(20)
    assert found.settled[0].at_s == 300
    assert found.slope("rss_mb") == pytest.approx(0.0, abs=1e-6)
    assert verdicts(found) == {"rss": "met", "files": "met", "tasks": "met", "kept_up": "met"}


def test_a_leak_is_found_whatever_the_state_does() -> None:
    found = outcome(20, growth_mb_per_min=0.25)
    assert found.slope("rss_mb") == pytest.approx(2.5)
    assert found.slope("state_mb") == pytest.approx(0.0)
    assert verdicts(found)["rss"] == "missed"


def test_files_and_the_rate_have_verdicts_too() -> None:
    assert verdicts(outcome(10, files=22))["files"] == "met"
    assert verdicts(outcome(10, files=23))["files"] == "missed"
    assert verdicts(outcome(10, done_share=0.9))["kept_up"] == "missed"


@pytest.mark.parametrize("minutes", [0.5, 3, 5.5])
def test_a_short_soak_gives_no_slope(minutes: float) -> None:
    found = outcome(minutes)
    assert math.isnan(found.slope("rss_mb"))
    assert verdicts(found)["rss"] == "not measured"
    assert found.answer()["rss_slope_mb_per_10min"] is None


@pytest.mark.parametrize("rate", [2_000, 20_000, 150_000])
@pytest.mark.parametrize("minutes", [6, 20, 240])
def test_cards_are_few_enough_for_the_state_and_enough_for_the_days(rate: int, minutes: int) -> None:
    cards, seconds = cards_for(rate, 60 * minutes), 60 * minutes
    a_day = 2 * cards
    assert a_day * 9_000 > rate * seconds, "the simulated days run into the present"
    kept = 67 * a_day + 4 * 70_000
    assert kept <= 1.01 * rate * soak.warm_up_s(seconds), "the state still grows after the warm-up"


def test_the_default_is_twenty_thousand_cards() -> None:
    assert cards_for(100_000, 20 * 60) == CARDS


def test_the_table_fits_a_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(outcome(20, growth_mb_per_min=0.25)))
    text = console.export_text()
    assert all(word in text for word in ("first", "warm", "last", "+2.50"))
    assert "…" not in text


def test_a_real_worker_is_sampled_while_it_works(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SAMPLE_S", 1.0)
    found = soak.run(0.05, 1_000, "exactly_once", kafka.bootstrap_servers, lambda _: None)
    assert found.failures == []
    assert len(found.samples) == 3
    assert found.samples[-1].done > found.samples[0].done
    assert found.samples[-1].state_mb > 0
    assert found.samples[-1].rss_mb > found.samples[-1].state_mb
    assert found.samples[-1].files > 5
