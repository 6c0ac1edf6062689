"""The label loop in the stream: what the gauges say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from models.fraud.label_quality import quality
from streams.settings import Labels
from streams.telemetry import METRICS, Telemetry
from tests.streams.label_loop import DAY_MS, NOW_MS, SEEN_MS, Loop, dead, flag, value
from tests.waiting import until


@dataclass(frozen=True)
class Played:
    """Some weeks of flags and labels, in two partitions."""

    loop: Loop
    rows: list[tuple[int, int, float, bool, bool]]  # partition, event time, score, fraud, labelled


def play(settings: Labels, seed: int = 0) -> Played:
    draw, rows = np.random.default_rng(seed), []
    loop = Loop(settings)
    for partition in (0, 1):
        flags, labels = [], []
        for number, time in enumerate(np.sort(NOW_MS - draw.integers(0, 40 * DAY_MS, 3000)).tolist()):
            score = float(np.float32(draw.beta(0.4, 3)))
            fraud = bool(draw.random() < score)
            labelled = bool(draw.random() < 0.8) and time + 5 * DAY_MS < NOW_MS
            flags.append(flag(f"t{number}", time, score, card_id=f"c{partition}"))
            if labelled:
                labels.append(value(transaction_id=f"t{number}", card_id=f"c{partition}", fraud=fraud,
                                    event_time=time, label_time=time + 5 * DAY_MS))  # fmt: skip
            rows.append((partition, time, score, fraud, labelled))
        loop.score(*flags, partition=partition)
        assert dead(loop.label(*labels, partition=partition, keys=[b"c%d" % partition] * len(labels))) == []
    return Played(loop, rows)


@pytest.mark.parametrize(("delay_days", "window_days"), [(7.0, 7.0), (0.5, 20.0)])
def test_figures_are_about_the_due_transactions_and_take_unlabelled_ones_for_genuine(
    delay_days: float, window_days: float
) -> None:
    played = play(Labels(delay_days=delay_days, window_days=window_days))

    def expected(partitions: tuple[int, ...]) -> dict[str, float]:
        end = max(row[1] for row in played.rows) - delay_days * DAY_MS
        due = [row for row in played.rows if end - window_days * DAY_MS < row[1] <= end and row[0] in partitions]
        scores = np.array([row[2] for row in due], np.float32)
        fraud = np.array([row[3] and row[4] for row in due])
        figures = quality(scores, scores > 0.5, fraud)
        return {f"fraud_{name}": value for name, value in figures.items()} | {"fraud_due_transactions": len(due)}

    def found() -> dict[str, float]:
        return {name: value for name, value in played.loop.gauges().items() if name.startswith("fraud_")}

    assert found() == pytest.approx(expected((0, 1)), abs=1e-12)
    assert 0 < found()["fraud_recall"] < 1
    stores = played.loop.state.stores()
    played.loop.pipeline.assigned({1: stores[1]})  # partition 0 has moved to another worker
    assert found() == pytest.approx(expected((1,)), abs=1e-12)
    assert played.loop.gauges()["labels_matched"] == sum(row[4] for row in played.rows if row[0] == 1)


def test_without_data_gauges_are_not_a_number_but_counts_are_0() -> None:
    loop = Loop()
    loop.pipeline.assigned({0: loop.state.store(0)})
    for _ in range(2):
        gauges = loop.gauges()
        unknown = {name for name, value in gauges.items() if math.isnan(value)}
        assert unknown == {"labels_newest_age_seconds", "fraud_precision", "fraud_recall", "fraud_average_precision",
                           "fraud_calibration_error"}  # fmt: skip
        assert not any(gauges[name] for name in gauges.keys() - unknown)
        loop.score(flag("t1", NOW_MS - 8 * DAY_MS), flag("t2", NOW_MS))  # flags without a feed of labels: no figures
    loop.label(value(label_time=NOW_MS - 90_000))
    assert loop.gauges()["labels_newest_age_seconds"] == pytest.approx(90)


def test_gauges_are_computed_beside_the_loop_and_not_too_often() -> None:
    loop = Loop()
    loop.score(flag("t1"))
    loop.label(value())

    def matched() -> float:
        return loop.pipeline.gauges()["headrace_labels_matched"]

    until(lambda: matched() == 1, 5, "the first figures")
    loop.score(flag("t2"))
    loop.label(value(transaction_id="t2"))
    thread = loop.pipeline._metrics._thread
    assert matched() == 1
    assert loop.pipeline._metrics._thread is thread
    loop.clock.advance(10)
    until(lambda: matched() == 2, 5, "figures after ten seconds")
    loop.pipeline.assigned({})  # at once: another worker counts them from now on
    until(lambda: matched() == 0, 5, "figures after a rebalance")


@pytest.mark.parametrize("label_time", [None, SEEN_MS, NOW_MS - 50 * DAY_MS])
def test_the_table_follows_the_flags_as_far_as_labels_are_held_and_without_new_ones_to_the_present(
    label_time: int | None,
) -> None:
    loop, asked = Loop(), list[int]()
    if label_time is not None:
        loop.label(value(event_time=label_time, label_time=label_time))

    def reached(time_ms: int) -> bool:
        asked.append(time_ms)
        return True

    loop.pipeline.table.reached = reached

    def look() -> None:
        loop.pipeline.gauges()
        loop.pipeline._metrics._thread.join()  # type: ignore[union-attr]

    look()
    loop.clock.advance(29)
    look()
    assert asked == ([] if label_time is None else [label_time] * 2)
    loop.clock.advance(10)
    look()
    # Unless old labels are processed anew: flags that the next ones need would be forgotten.
    assert asked[-1] == (NOW_MS + 39_000 if label_time in (None, SEEN_MS) else label_time)


def test_ages_of_labels_are_observed_once() -> None:
    loop = Loop()
    labels = [value(), value(), value(transaction_id="t2", label_time=SEEN_MS + DAY_MS)]
    loop.label(*labels)
    loop.label(*labels)
    observed = loop.pipeline.observations()
    assert sorted(observed["headrace_label_age_seconds"].tolist()) == [86400.0, 7 * 86400.0]
    assert loop.pipeline.observations() == {}


def test_every_gauge_and_observation_is_in_the_table_of_metrics() -> None:
    loop, telemetry = Loop(), Telemetry("labels")
    loop.label(value())
    for name, amount in loop.pipeline.gauges().items():
        telemetry.set(name, amount)
    for name, values in loop.pipeline.observations().items():
        telemetry.observe_all(name, values)
    page = telemetry.expose().decode()
    assert 'headrace_fraud_precision{pipeline="labels"} NaN' in page
    assert 'headrace_label_age_seconds_count{pipeline="labels"} 1.0' in page
    own = {name for name, metric in METRICS.items() if not metric.common}
    assert own == {*loop.pipeline.gauges(), "headrace_label_age_seconds"}
    assert not [name for name in own if f"{name}{{" in Telemetry("fraud").expose().decode()]
