"""The label loop in the stream: what is poison, which flag a label belongs to, and what the gauges say."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.fraud.label_quality import quality
from streams.clock import ManualClock
from streams.pipelines import PIPELINES
from streams.pipelines.labels.pipeline import LabelsPipeline
from streams.processor import Processor
from streams.records import Outgoing, RecordBatch
from streams.replay import Replay
from streams.settings import Fraud, Labels, Settings
from streams.state import KeyedState
from streams.telemetry import METRICS, Telemetry
from tests.streams.inmemory import batch
from tests.waiting import until

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
DAY_MS = 86_400_000
IN, OUT, FLAGS = "fraud.labels", "fraud.outcomes", "fraud.flags"
SEEN_MS = NOW_MS - 8 * DAY_MS
GOOD = {"transaction_id": "t1", "card_id": "c1", "terminal_id": "m1", "fraud": True,
        "event_time": SEEN_MS, "label_time": SEEN_MS + 7 * DAY_MS}  # fmt: skip


def rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def value(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


def flag(transaction: str, event_time: int = SEEN_MS, score: float = 0.25, **fields: object) -> bytes:
    made = {"transaction_id": transaction, "card_id": "c1", "event_time": rfc3339(event_time), "score": score,
            "flagged": score > 0.5, "decision": "review" if score > 0.5 else "approve", "model": "fraud/2",
            "reasons": []}  # fmt: skip
    return json.dumps(made | fields).encode()


class Loop:
    """The pipeline with its state, without a broker."""

    def __init__(self, settings: Labels | None = None, now_s: float = NOW_S) -> None:
        self.clock = ManualClock(now_s)
        self.pipeline = LabelsPipeline(settings or Labels(), Fraud(), self.clock)
        self.state = KeyedState("labels.changelog", self.pipeline.new_store)
        self._processor = Processor(self.pipeline, self.state, clock=self.clock)
        self._next: dict[tuple[str, int], int] = {}

    def _batch(self, topic: str, values: Sequence[bytes | None], partition: int, keys: Any) -> RecordBatch:
        start = self._next.get((topic, partition), 0)
        self._next[topic, partition] = start + len(values)
        return batch(values, keys=keys or [b"c1"] * len(values), start=start, partition=partition, topic=topic)

    def score(self, *flags: bytes | None, partition: int = 0) -> None:
        self.pipeline.table.apply(self._batch(FLAGS, flags, partition, None))

    def label(self, *labels: bytes | None, partition: int = 0, keys: Any = None) -> list[Outgoing]:
        (outbox,) = self._processor.process([self._batch(IN, labels, partition, keys)]).outboxes
        return outbox.outgoing

    def gauges(self) -> dict[str, float]:
        """As they will be once they have been computed anew; without the common part of the names."""
        self.pipeline._metrics.refresh()
        found = self.pipeline.gauges()
        return {name.removeprefix("headrace_"): value for name, value in found.items()}

    def counts(self) -> dict[str, float]:
        return {
            name.removeprefix("labels_"): value
            for name, value in self.gauges().items()
            if name.startswith("labels_") and "age" not in name and value
        }


def outcomes(outgoing: Iterable[Outgoing]) -> list[dict[str, Any]]:
    return [json.loads(each or b"") for one in outgoing if one.topic == OUT for each in one.values]


def dead(outgoing: Iterable[Outgoing]) -> list[tuple[bytes | None, str, str]]:
    """Value, kind and message of each dead letter."""
    found = []
    for one in outgoing:
        if one.topic == IN + ".dead-letter":
            for row, each in enumerate(one.values):
                headers = dict(one.headers_of(row))
                found.append((each, *(str(headers[f"error.{name}"], "utf-8") for name in ("type", "message"))))  # type: ignore[arg-type]
    return found


# Outcomes


def test_an_outcome_is_the_label_and_the_flag_that_it_belongs_to() -> None:
    loop = Loop()
    loop.score(flag("t1", score=0.812345), flag("t2", score=0.000001))
    first, second = outcomes(loop.label(value(amount=3.5), value(transaction_id="t2", fraud=False)))
    assert first == {
        "transaction_id": "t1", "card_id": "c1", "fraud": True, "event_time": rfc3339(SEEN_MS),
        "label_time": rfc3339(SEEN_MS + 7 * DAY_MS), "label_age_s": 7 * 86400.0, "score": 0.812345, "flagged": True,
        "decision": "review", "model": "fraud/2",
    }  # fmt: skip
    assert (second["fraud"], second["score"], second["flagged"], second["decision"]) == (
        False,
        0.000001,
        False,
        "approve",
    )


def test_without_a_flag_the_flags_fields_are_null() -> None:
    loop = Loop()
    loop.score(flag("t9"))
    (outcome,) = outcomes(loop.label(value()))
    assert {name for name, each in outcome.items() if each is None} == {"score", "flagged", "decision", "model"}


def test_a_transaction_is_known_by_its_card_and_its_id() -> None:
    loop = Loop()
    loop.score(flag("1t1", card_id="c"), flag("t1", card_id="c"), flag("t", card_id="c1"))
    assert outcomes(loop.label(value()))[0]["score"] is None


def test_times_may_be_texts_or_milliseconds() -> None:
    loop = Loop()
    texts = value(event_time="2025-12-24T05:30:00+05:30", label_time="2025-12-31T00:00:00Z")
    first, second = outcomes(loop.label(texts, value()))
    assert {**first, "score": 0} == {**second, "score": 0}
    assert second["event_time"] == "2025-12-24T00:00:00.000Z"


@pytest.mark.parametrize("card", ['"quoted"', "back\\slash", "ünï☃😀", "tab\tnewline\n", "\x00"])
def test_ids_of_any_characters_come_out_as_they_went_in(card: str) -> None:
    loop = Loop()
    loop.score(flag(card + "t", card_id=card))
    (outcome,) = outcomes(loop.label(value(card_id=card, transaction_id=card + "t"), keys=[card.encode()]))
    assert (outcome["card_id"], outcome["transaction_id"], outcome["score"]) == (card, card + "t", 0.25)


def test_the_worker_can_name_and_describe_it() -> None:
    pipeline = PIPELINES["labels"].build(Settings(fraud=Fraud(output="flags.mine")))
    assert (pipeline.name, pipeline.model, pipeline.engine) == ("labels", "labels/1", "python")
    assert pipeline.table.topics() == {"flags.mine": 0}
    pipeline.warm_up()
    pipeline.check_model()
    pipeline.close()


# Poison

POISON: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "Tombstone"),
    "not JSON": (b"label", "DecodeError"),
    "half of it": (value()[:40], "DecodeError"),
    "invalid UTF-8 in an id": (value().replace(b'"t1"', b'"\xff\xfe"'), "UnicodeDecodeError"),
    "deep lists in an unknown field": (value()[:-1] + b',"x":' + b"[" * 7000 + b"]" * 7000 + b"}", "RecursionError"),
    "a value over the limit": (value(note="x" * 20_000), "ValueTooLarge"),
    **{f"no {field}": (json.dumps({k: v for k, v in GOOD.items() if k != field}).encode(), "ValidationError")
       for field in GOOD},
    "fraud as a number": (value(fraud=1), "ValidationError"),
    "fraud as text": (value(fraud="true"), "ValidationError"),
    "a negative amount": (value(amount=-0.01), "ValidationError"),
    "amount NaN": (value(amount="@").replace(b'"@"', b"NaN"), "DecodeError"),
    "amount 1e400": (value(amount="@").replace(b'"@"', b"1e400"), "ValidationError"),
    "a time without a zone": (value(label_time="2026-01-01T00:00:00"), "ValidationError"),
    "a label from the future": (value(label_time=NOW_MS + 3_600_001), "LabelFromFuture"),
    "a label time beyond 64 bits": (value(label_time="@").replace(b'"@"', b"9" * 30), "LabelFromFuture"),
    "a label before its transaction": (value(label_time=SEEN_MS - 1), "LabelBeforeEvent"),
    "an event before 2000": (value(event_time="1999-12-31T23:59:59Z"), "EventTimeAbsurd"),
    "seconds taken for milliseconds": (value(event_time=SEEN_MS // 1000), "EventTimeAbsurd"),
    "an event far below 64 bits": (value(event_time="@").replace(b'"@"', b"-" + b"9" * 30), "EventTimeAbsurd"),
    "a transaction from the future": (value(event_time=NOW_MS + DAY_MS, label_time=NOW_MS + DAY_MS), "LabelFromFuture"),
    "another card than its key": (value(card_id="c2"), "KeyMismatch"),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "kind"), POISON.values(), ids=POISON.keys())
def test_poison_is_dead_lettered_with_a_sentence_and_its_neighbours_have_outcomes(bad: bytes | None, kind: str) -> None:
    loop = Loop()
    loop.score(flag("t1"))
    outgoing = loop.label(value(), bad, value(transaction_id="t3"))
    ((letter, got, message),) = dead(outgoing)
    assert (letter, got) == (bad, kind)
    assert message
    assert [outcome["transaction_id"] for outcome in outcomes(outgoing)] == ["t1", "t3"]
    assert len(loop.state.store(0)) == 2


@pytest.mark.parametrize("good", [
    value(label_time=NOW_MS + 3_600_000 - 1), value(label_time=SEEN_MS), value(amount=None), value(amount=0),
    value(note={"deep": [1]}),
])  # fmt: skip
def test_what_is_odd_but_right_has_an_outcome(good: bytes) -> None:
    loop = Loop()
    assert dead(loop.label(good)) == []
    assert len(loop.state.store(0)) == 1


def test_a_card_that_scores_have_passed_without_seeing_it_is_poison() -> None:
    loop = Loop()
    loop.score(flag("t1", SEEN_MS), flag("t2", SEEN_MS + DAY_MS, card_id="c3"))
    labels = [
        value(),
        value(card_id="c2"),
        value(card_id="c2", event_time=SEEN_MS + 2 * DAY_MS),  # the scores are not there yet
        value(card_id="c2", event_time=NOW_MS - 60 * DAY_MS),  # too old to know
        value(card_id="c2", event_time=NOW_MS - 30_000, label_time=NOW_MS),
    ]
    outgoing = loop.label(*labels, keys=[b"c1", *[b"c2"] * 4])
    ((letter, kind, message),) = dead(outgoing)
    assert (letter, kind) == (labels[1], "UnknownCard")
    assert message == "expected a card that has been scored, got 'c2'"
    assert len(outcomes(outgoing)) == 4


def test_a_card_of_a_partition_whose_scores_are_behind_is_not_poison() -> None:
    loop = Loop()
    loop.score(flag("t1", SEEN_MS + DAY_MS))
    assert dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"])) == []
    loop.score(flag("t2", SEEN_MS - 1, card_id="c3"), partition=1)
    assert dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"])) == []
    loop.score(flag("t3", SEEN_MS, card_id="c3"), partition=1)
    ((_, kind, _),) = dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"]))
    assert kind == "UnknownCard"


def test_of_the_last_minutes_nothing_is_known_yet() -> None:
    loop = Loop()
    loop.score(flag("t1", NOW_MS))
    times = [NOW_MS - 30_000, NOW_MS - 5 * 60_000]
    labels = [value(card_id="c2", event_time=time, label_time=NOW_MS) for time in times]
    outgoing = loop.label(*labels, keys=[b"c2"] * 2)
    assert [letter for letter, _, _ in dead(outgoing)] == labels[1:]
    assert len(outcomes(outgoing)) == 1


def test_the_table_is_waited_for_and_a_card_that_it_cannot_know_is_not_poison() -> None:
    loop, asked = Loop(), list[int]()

    def reached(time_ms: int) -> bool:
        asked.append(time_ms)
        return False

    loop.pipeline.table.reached = reached
    loop.score(flag("t1"))
    assert dead(loop.label(value(card_id="c2"), keys=[b"c2"])) == []
    assert asked == [SEEN_MS + 7 * DAY_MS]
    loop.label(value(label_time=NOW_MS), value())
    assert SEEN_MS + 7 * DAY_MS < asked[-1] < NOW_MS - 60_000  # not live: else a table that has only begun would do


# The table


def test_the_table_follows_the_flags_and_passes_over_what_is_none() -> None:
    loop = Loop()
    table = loop.pipeline.table
    assert table.next_offset(FLAGS, 0) is None
    assert table.watermark(FLAGS, 0) is None
    absurd = [flag("t7", NOW_MS + 2 * DAY_MS), flag("t8", NOW_MS - 40 * 365 * DAY_MS), flag("t9", score=2.0)]
    loop.score(None, b"?", flag("t1"), *absurd, flag("t2", SEEN_MS - 5), b"{}")
    loop.score(b"?")
    assert len(table) == 2
    assert (table.newest_ms, table.newest_of(0), table.newest_of(1)) == (SEEN_MS, SEEN_MS, None)
    assert (table.watermark(FLAGS, 0), table.watermark(FLAGS, 1)) == (SEEN_MS, None)
    assert (table.next_offset(FLAGS, 0), table.next_offset(FLAGS, 1)) == (9, None)
    assert 0 < table.nbytes < 100


def test_flags_that_come_again_do_not_count_twice() -> None:
    loop = Loop()
    first = [flag("t1", score=0.75), flag("t2", score=0.75)]
    records = batch(first, topic=FLAGS, start=10)
    for _ in range(2):
        loop.pipeline.table.apply(records)  # by offset
    loop.pipeline.table.apply(batch([flag("t1", score=0.125), flag("t3")], topic=FLAGS, start=12))  # by transaction
    assert len(loop.pipeline.table) == 3
    assert outcomes(loop.label(value()))[0]["score"] == 0.75


# What labels find


def test_a_label_waits_for_its_transaction_and_is_counted_once() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value(), value(), value(transaction_id="t0"))
    assert loop.counts() == {"matched": 1, "waiting": 1}
    loop.score(flag("t1"))
    assert loop.counts() == {"matched": 2}


def test_a_label_whose_transaction_does_not_come_in_time_is_unknown_for_good() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value(), value(transaction_id="t2", event_time=SEEN_MS + DAY_MS))
    loop.score(flag("t3", SEEN_MS + 7 * DAY_MS))
    assert loop.counts() == {"waiting": 2}
    loop.score(flag("t4", SEEN_MS + 7 * DAY_MS + 1))
    assert loop.counts() == {"waiting": 1, "unknown": 1}
    loop.score(flag("t1", SEEN_MS), flag("t2", SEEN_MS + DAY_MS))  # a week late, and in time
    assert loop.counts() == {"matched": 1, "unknown": 1}


def test_a_label_is_counted_as_long_as_its_flag_is_held_and_no_longer() -> None:
    loop = Loop()
    loop.score(flag("t1", NOW_MS - 46 * DAY_MS), flag("t2", NOW_MS - 40 * DAY_MS))
    labels = [value(transaction_id=f"t{at}", event_time=NOW_MS - days * DAY_MS, label_time=NOW_MS - 30 * DAY_MS)
              for at, days in ((1, 46), (2, 40), (3, 46), (4, 40))]  # fmt: skip
    loop.label(*labels)
    assert loop.counts() == {"matched": 2, "waiting": 2}
    loop.score(flag("t5", NOW_MS))  # the flags are far ahead of the labels
    assert loop.counts() == {"matched": 1, "unknown": 1}


def test_only_the_flags_of_the_labels_own_partition_let_it_wait_no_longer() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value())
    loop.score(flag("t9", SEEN_MS + 8 * DAY_MS, card_id="c9"), partition=1)
    assert loop.counts() == {"waiting": 1}


def test_labels_that_contradict_and_labels_that_come_too_late_are_counted() -> None:
    loop = Loop()
    loop.score(flag("t1"), flag("t2"))
    late = value(transaction_id="t5", event_time=NOW_MS - 60 * DAY_MS)
    loop.label(value(fraud=False), value(label_time=NOW_MS), value(transaction_id="t2"), late)
    assert loop.counts() == {"matched": 2, "superseded": 1, "expired": 1}


def test_a_restart_from_the_changelog_and_a_redelivery_give_the_same() -> None:
    labels = [
        value(transaction_id=f"t{number % 7}", fraud=number % 3 == 0, label_time=SEEN_MS + number % 5 * DAY_MS)
        for number in range(40)
    ]
    flags = [flag(f"t{number}", SEEN_MS - number * DAY_MS) for number in range(0, 14, 2)]
    first = Loop()
    first.score(*flags)
    log: dict[bytes, bytes | None] = {}
    for start in (0, 10, 20):
        for one in first.label(*labels[start : start + 10]):
            if one.topic == "labels.changelog":
                log.update(zip(one.keys, one.values, strict=True))  # type: ignore[arg-type]
    second = Loop()
    second.score(*flags)
    second.state.store(0).merge(list(log), list(log.values()))
    second.label(*labels[20:])  # 20 to 29 come again
    first.label(*labels[30:])
    assert second.counts() == first.counts()
    assert second.gauges()["labels_matched"] == 4
    assert second.state.store(0).labels()[1].tolist() == first.state.store(0).labels()[1].tolist()


def test_all_orders_of_flags_and_labels_end_alike() -> None:
    flags = [flag("t1"), flag("t2", SEEN_MS + DAY_MS)]
    labels = [value(), value(fraud=False, label_time=SEEN_MS + 8 * DAY_MS), value(transaction_id="t3")]
    ends = []
    for order in itertools.permutations(range(5)):
        loop = Loop()
        for number in order:
            if number < 2:
                loop.score(flags[number])
            else:
                loop.label(labels[number - 2])
        ends.append((loop.counts(), loop.state.store(0).labels()[1].tolist()))
    assert all(end == ends[0] for end in ends)
    assert ends[0][0] == {"matched": 1, "waiting": 1, "superseded": 1}


# Gauges


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


def test_predictions_over_a_file_need_no_flags() -> None:
    replay = Replay(LabelsPipeline(Labels(), Fraud(), ManualClock(NOW_S)), ManualClock(NOW_S))
    replayed = replay.process([b"c1", b"c1"], [value(), b"?"])
    assert json.loads(replayed.values[0] or b"")["fraud"] is True
    assert len(replayed.dead_letters) == 1
