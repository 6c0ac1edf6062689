"""Each checker sees what it is there for: one fabricated violation at a time, in a run that is clean otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.chaos import verdict
from tests.chaos.verdict import AT_LEAST_ONCE, EXACTLY_ONCE, GUARANTEES, Disturbance, Evidence, Lives, Tally
from tests.counting import ENTRY
from tests.verify import Headers, Record

SOURCE, PARTITIONS, RECORDS, MADE_MS = "in", 2, 40, 5_000
BAD = (0, 7)


def identity(partition: int, offset: int) -> Headers:
    return [("id", f"{SOURCE}/{partition}/{offset}".encode())]


def clean() -> Evidence:
    """A run of 20 records a partition with one dead letter; a changelog record for each input, as it was counted."""
    inputs = [
        Record(p, o, 0, b"k%d" % (o % 3), b"poison" if (p, o) == BAD else b"{}", [])
        for p in range(PARTITIONS)
        for o in range(RECORDS // PARTITIONS)
    ]
    outputs, letters, changelog = [], [], []
    counts: dict[verdict.Key, int] = {}
    for record in inputs:
        place = (record.partition, record.offset)
        if place == BAD:
            names = {"topic": SOURCE, "partition": str(place[0]), "offset": str(place[1])}
            headers = [(f"error.{name}", text.encode()) for name, text in names.items()]
            letters.append(Record(place[0], 0, MADE_MS, record.key, record.value, headers))
            continue
        key = (record.partition, record.key)
        counts[key] = counts.get(key, 0) + 1
        made = verdict.value(place[1], counts[key])
        outputs.append(Record(place[0], place[1], MADE_MS, record.key, made, identity(*place)))
        changelog.append(Record(place[0], place[1], MADE_MS, record.key, ENTRY.pack(counts[key], place[1]), []))
    return Evidence(SOURCE, inputs, outputs, letters, changelog)


def said(evidence: Evidence, guarantee: str, **more: object) -> str:
    """The verdict in one text."""
    return "\n".join(verdict.judge(evidence, verdict.uninterrupted(evidence.inputs), guarantee, **more))  # type: ignore[arg-type]


def changed(evidence: Evidence, **fields: object) -> Evidence:
    return dataclasses.replace(evidence, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_clean_run_passes(guarantee: str) -> None:
    tally = Tally(RECORDS, RECORDS - 1, 1)
    assert said(clean(), guarantee, lives=Lives([tally], whole=True)) == ""


Spoil = Callable[[Evidence], Evidence]


def other(record: Record, **fields: object) -> Record:
    return dataclasses.replace(record, **fields)  # type: ignore[arg-type]


SPOILT: dict[str, tuple[Spoil, str]] = {
    "an output is missing": (lambda e: changed(e, outputs=e.outputs[1:]), "1 of 39 good inputs have no output"),
    "a dead letter is missing": (lambda e: changed(e, letters=[]), "1 of 1 bad inputs have no dead letter"),
    "an output for a bad input": (
        lambda e: changed(e, outputs=[*e.outputs, other(e.letters[0], headers=identity(*BAD))]),
        "1 bad inputs have an output",
    ),
    "a dead letter for a good input": (
        lambda e: changed(
            e, letters=[*e.letters, other(e.outputs[0], headers=[*e.letters[0].headers[:2], ("error.offset", b"0")])]
        ),
        "1 good inputs have a dead letter",
    ),
    "an output for nothing": (
        lambda e: changed(e, outputs=[*e.outputs, other(e.outputs[0], headers=identity(0, 99))]),
        "never were, first (0, 99)",
    ),
    "an output under another key": (
        lambda e: changed(e, outputs=[other(e.outputs[0], key=b"x"), *e.outputs[1:]]),
        "1 records stand under another key or partition",
    ),
    "an output on another partition": (
        lambda e: changed(e, outputs=[*e.outputs[1:], other(e.outputs[0], partition=1)]),
        "1 records stand under another key or partition",
    ),
    "a dead letter that was changed": (
        lambda e: changed(e, letters=[other(e.letters[0], value=b"Poison")]),
        "1 dead letters have another value",
    ),
    "an output without an id": (
        lambda e: changed(e, outputs=[other(e.outputs[0], headers=[]), *e.outputs[1:]]),
        "1 records name no input of theirs",
    ),
    "an id of another topic": (
        lambda e: changed(e, outputs=[other(e.outputs[0], headers=[("id", b"other/0/0")]), *e.outputs[1:]]),
        "1 records name no input of theirs",
    ),
    "outputs of a key in another order": (
        lambda e: changed(e, outputs=[e.outputs[3], *e.outputs[1:3], e.outputs[0], *e.outputs[4:]]),
        "1 outputs stand behind a later one of their key, first (0, 0) of key b'k0' behind offset 3",
    ),
    "a key's last change is missing": (
        lambda e: changed(e, changelog=e.changelog[:-1]),
        "1 of 6 keys have another state",
    ),
    "a state that counts once too often": (
        lambda e: changed(e, changelog=[*e.changelog[:-1], other(e.changelog[-1], value=ENTRY.pack(8, 19))]),
        "1 of 6 keys have another state (key, got, expected), first ((1, b'k1'), (8, 19), (7, 19))",
    ),
    "a key that never was": (
        lambda e: changed(e, changelog=[*e.changelog, other(e.changelog[0], key=b"x")]),
        "1 of 6 keys have another state",
    ),
    "a key that was deleted": (
        lambda e: changed(e, changelog=[*e.changelog, other(e.changelog[0], value=None)]),
        "1 of 6 keys have another state",
    ),
}


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("case", SPOILT)
def test_what_no_guarantee_allows_is_seen(case: str, guarantee: str) -> None:
    spoil, complaint = SPOILT[case]
    assert complaint in said(spoil(clean()), guarantee)


EXACTLY: dict[str, tuple[Spoil, str]] = {
    "an output twice": (
        lambda e: changed(e, outputs=[*e.outputs, e.outputs[-1]]),
        "1 of 40 inputs are there more than once (input, times), first ((1, 19), 2)",
    ),
    "a dead letter twice": (
        lambda e: changed(e, letters=[*e.letters, *e.letters]),
        "1 of 40 inputs are there more than once",
    ),
    "an output from another state": (
        lambda e: changed(e, outputs=[other(e.outputs[0], value=verdict.value(0, 2)), *e.outputs[1:]]),
        "1 outputs differ from an uninterrupted run's",
    ),
    "an older change behind the last": (
        lambda e: changed(e, changelog=[*e.changelog, e.changelog[0]]),
        "1 of 6 keys have another state",
    ),
}


@pytest.mark.parametrize("case", EXACTLY)
def test_what_exactly_once_forbids_is_seen(case: str) -> None:
    spoil, complaint = EXACTLY[case]
    assert complaint in said(spoil(clean()), EXACTLY_ONCE)
    in_flight = [Disturbance(MADE_MS, MADE_MS, {})]
    assert said(spoil(clean()), AT_LEAST_ONCE, disturbances=in_flight) == "", "at least once allows it"


@pytest.mark.parametrize(
    ("disturbances", "seen"),
    [
        ([], True),
        ([Disturbance(MADE_MS + 900, MADE_MS + 950, {})], False),
        ([Disturbance(MADE_MS - 950, MADE_MS - 900, {})], False),
        ([Disturbance(MADE_MS + 1100, MADE_MS + 1200, {})], True),  # too late: it should have been committed by then
        ([Disturbance(MADE_MS - 1200, MADE_MS - 1100, {})], True),
        ([Disturbance(MADE_MS, MADE_MS, {1: 20})], True),  # it was committed
        ([Disturbance(MADE_MS, MADE_MS, {1: 19})], False),
    ],
)
def test_a_repetition_must_have_been_in_flight(disturbances: list[Disturbance], seen: bool) -> None:
    run = clean()
    run = changed(run, outputs=[*run.outputs, other(run.outputs[-1], timestamp_ms=MADE_MS + 60_000)])
    assert ("repetitions were not in flight" in said(run, AT_LEAST_ONCE, disturbances=disturbances, reach_s=1)) == seen


def test_order_is_not_asked_of_writes_that_the_test_itself_reorders() -> None:
    run, complaint = SPOILT["outputs of a key in another order"][0](clean()), "behind a later one of their key"
    assert complaint not in said(run, AT_LEAST_ONCE, overtaking=True)
    assert complaint in said(run, EXACTLY_ONCE, overtaking=True)


@pytest.mark.parametrize(
    ("lives", "complaint"),
    [
        (Lives([Tally(40, 38, 1)]), "1 workers have counted inputs that are not the sum"),
        (Lives([Tally(20, 20, 0)]), ""),
        (Lives([Tally(20, 20, 0)], whole=True), "the metrics count (20, 0) outputs and dead letters"),
        (Lives([Tally(20, 20, 0), Tally(20, 19, 1)], whole=True), ""),
        (Lives([], odd_ends=["worker 3 ended with -11"]), "worker 3 ended with -11"),
    ],
)
def test_the_metrics_must_add_up(lives: Lives, complaint: str) -> None:
    text = said(clean(), EXACTLY_ONCE, lives=lives)
    assert complaint in text if complaint else text == ""


def test_what_is_counted_and_what_is_refused() -> None:
    """As the counting pipeline does it: a record that fails behind its features is in the state all the same."""
    values = [b"{}", b"bad:infer", b"bad:features", b"bad:encode", b"poison", b"{}"]
    expected = verdict.uninterrupted(Record(0, offset, 0, b"k", each, []) for offset, each in enumerate(values))
    assert expected.values[0, 0] == verdict.value(0, 1)
    assert [expected.values[0, offset] for offset in range(1, 5)] == [None] * 4
    assert expected.values[0, 5] == verdict.value(5, 4)
    assert expected.state == {(0, b"k"): (4, 5)}
