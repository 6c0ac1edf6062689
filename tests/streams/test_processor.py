"""The way of a micro-batch: one bad record never costs its neighbours, one bad model stops everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from streams.clock import ManualClock
from streams.deadletter import DeadLetterGuard
from streams.errors import DeadLetterLimit, ModelFailing
from streams.processor import Processor
from streams.records import Outbox, Outgoing, RecordBatch
from streams.settings import DeadLetter
from streams.state import KeyedState
from tests.counting import ENTRY, CountingPipeline, CountStore
from tests.streams.inmemory import TOPIC, batch

OUT, CHANGELOG, DEAD = "counts", "counts.changelog", TOPIC + ".dead-letter"
STAGES = ["decode", "features", "infer", "nan", "encode"]
BAD = {"decode": b"poison", "nan": b"nan"} | {each: f"bad:{each}".encode() for each in ("features", "infer", "encode")}


class Bench:
    """A processor over the counting pipeline, with state."""

    def __init__(self, pipeline: Any = None, guard: DeadLetter | None = None) -> None:
        self.pipeline = pipeline or CountingPipeline(TOPIC, OUT)
        self.state = KeyedState(CHANGELOG, CountStore)
        self.processor = Processor(
            self.pipeline, self.state, None if guard is None else DeadLetterGuard(guard), ManualClock(1_767_225_600.0)
        )

    def __call__(self, *batches: RecordBatch) -> list[Outbox]:
        return self.processor.process(list(batches)).outboxes


def _to(outbox: Outbox, topic: str) -> list[Outgoing]:
    return [each for each in outbox.outgoing if each.topic == topic]


def _outputs(outbox: Outbox) -> list[tuple[bytes | None, int, int]]:
    """Key, offset and count of each prediction, in order."""
    found = []
    for outgoing in _to(outbox, OUT):
        for key, value in zip(outgoing.keys, outgoing.values, strict=True):
            content = json.loads(value or b"")
            found.append((key, content["offset"], content["count"]))
    return found


def _dead(outbox: Outbox) -> list[tuple[bytes | None, str, int]]:
    """Value, stage and offset of each dead letter, in order."""
    found = []
    for outgoing in _to(outbox, DEAD):
        for row, value in enumerate(outgoing.values):
            headers = dict(outgoing.headers_of(row))
            found.append(
                (value, (headers["error.stage"] or b"").decode(), int((headers["error.offset"] or b"").decode()))
            )
    return found


def _changes(outbox: Outbox) -> dict[bytes | None, tuple[int, int]]:
    return {
        key: ENTRY.unpack(value or b"")
        for outgoing in _to(outbox, CHANGELOG)
        for key, value in zip(outgoing.keys, outgoing.values, strict=True)
    }


def test_a_good_batch_becomes_predictions_and_changes_and_no_dead_letters() -> None:
    (outbox,) = Bench()(batch([b"x"] * 3, keys=[b"a", b"b", b"a"], start=7, partition=2))
    assert (outbox.partition, outbox.outputs, outbox.poison) == (2, 3, {})
    assert _outputs(outbox) == [(b"a", 7, 1), (b"b", 8, 1), (b"a", 9, 2)]
    assert _changes(outbox) == {b"a": (2, 9), b"b": (1, 8)}
    assert _dead(outbox) == []


def test_two_batches_of_a_partition_each_carry_their_own_changes() -> None:
    """They may end up in two transactions, and the first must not commit what the second has done."""
    first, second = Bench()(batch([b"x"], keys=[b"a"], start=0), batch([b"x"] * 2, keys=[b"a", b"b"], start=1))
    assert _changes(first) == {b"a": (1, 0)}
    assert _changes(second) == {b"a": (2, 1), b"b": (1, 2)}


def test_every_prediction_carries_id_model_and_engine() -> None:
    (outbox,) = Bench()(batch([b"x", b"poison", b"x"], start=41, partition=3))
    (outgoing,) = _to(outbox, OUT)
    assert [dict(outgoing.headers_of(row)) for row in range(2)] == [
        {"id": f"{TOPIC}/3/{offset}".encode(), "model": b"counting/1", "engine": b"python"} for offset in (41, 43)
    ]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("bad", [[0], [63], [17], [0, 1, 2], [5, 6, 40, 63], list(range(0, 64, 2))])
def test_only_the_bad_ones_are_dead_lettered_and_the_others_keep_their_order(stage: str, bad: list[int]) -> None:
    values = [BAD[stage] if row in bad else b"x" for row in range(64)]
    keys = [f"k{row % 5}".encode() for row in range(64)]
    bench = Bench()
    (outbox,) = bench(batch(values, keys=keys, start=1000))
    good = [1000 + row for row in range(64) if row not in bad]
    assert [offset for _, offset, _ in _outputs(outbox)] == good
    assert [key for key, _, _ in _outputs(outbox)] == [keys[offset - 1000] for offset in good]
    assert _dead(outbox) == [(BAD[stage], "infer" if stage == "nan" else stage, 1000 + row) for row in bad]
    assert outbox.outputs == len(good)
    assert sum(outbox.poison.values()) == len(bad)


@pytest.mark.parametrize("stage", ["features", "infer", "encode"])
def test_bisection_applies_each_record_to_the_state_once(stage: str) -> None:
    values = [BAD[stage] if row in (3, 31, 32) else b"x" for row in range(64)]
    bench = Bench()
    (outbox,) = bench(batch(values))
    counts = [count for _, _, count in _outputs(outbox)]
    seen = 61 if stage == "features" else 64  # a record that fails behind the features has been counted
    assert counts == sorted(set(counts))
    assert bench.state.store(0).counts == {b"k": [seen, 63]}
    assert _changes(outbox) == {b"k": (seen, 63)}


def test_a_batch_with_a_failure_at_every_stage() -> None:
    values = [b"x", *(BAD[stage] for stage in STAGES), b"x", b"x"]
    (outbox,) = Bench()(batch(values))
    assert [offset for _, offset, _ in _outputs(outbox)] == [0, 6, 7]
    assert _dead(outbox) == [
        (BAD[stage], "infer" if stage == "nan" else stage, row) for row, stage in enumerate(STAGES, start=1)
    ]


def test_a_batch_of_poison_alone_becomes_dead_letters_alone() -> None:
    (outbox,) = Bench()(batch([b"poison"] * 20))
    assert outbox.outputs == 0
    assert _outputs(outbox) == []
    assert len(_dead(outbox)) == 20


def test_partitions_share_an_inference_and_keep_their_own_state_and_failures() -> None:
    calls: list[int] = []

    class Watched(CountingPipeline):
        def infer(self, features: Any) -> Any:
            calls.append(len(features))
            return super().infer(features)

    bench = Bench(Watched(TOPIC, OUT))
    first = batch([b"x", b"bad:infer", b"x"], start=10, partition=0)
    second = batch([b"poison", b"x"], start=20, partition=1)
    third = batch([b"x", b"nan"], start=13, partition=0)
    empty = batch([b"poison"], start=5, partition=2)
    boxes = bench(first, second, third, empty)
    assert calls[0] == 6
    assert [box.partition for box in boxes] == [0, 1, 0, 2]
    assert [_outputs(box) for box in boxes] == [[(b"k", 10, 1), (b"k", 12, 3)], [(b"k", 21, 1)], [(b"k", 13, 4)], []]
    assert [_dead(box) for box in boxes] == [
        [(b"bad:infer", "infer", 11)],
        [(b"poison", "decode", 20)],
        [(b"nan", "infer", 14)],
        [(b"poison", "decode", 5)],
    ]
    assert bench.state.store(0).counts == {b"k": [5, 14]}
    assert bench.state.store(1).counts == {b"k": [1, 21]}


def test_a_redelivered_batch_gives_the_same_predictions_and_writes_all_its_keys_again() -> None:
    bench = Bench()
    records = batch([b"x"] * 4, keys=[b"a", b"b", b"a", b"c"])
    (first,) = bench(records)
    (again,) = bench(records)
    assert _changes(again) == _changes(first)
    assert {offset for _, offset, _ in _outputs(again)} == {0, 1, 2, 3}
    assert bench.state.store(0).counts == {b"a": [2, 2], b"b": [1, 1], b"c": [1, 3]}


@pytest.mark.parametrize("value", [b"bad:infer", b"nan"])
def test_a_model_that_fails_for_every_record_of_a_large_batch_stops_the_pipeline(value: bytes) -> None:
    with pytest.raises(
        ModelFailing, match=r"counting/1 on python fails for every record .* of 64 .*nothing .*committed"
    ):
        Bench()(batch([value] * 64))


def test_a_model_that_fails_for_every_record_across_partitions_stops_the_pipeline() -> None:
    bench = Bench()
    bench.pipeline.model_broken = True
    with pytest.raises(ModelFailing, match="bad:infer"):
        bench(*(batch([b"x"] * 5, partition=partition) for partition in range(4)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_records_fail_and_the_golden_batch_does_not_they_are_poison(count: int) -> None:
    (outbox,) = Bench()(batch([b"bad:infer"] * count))
    assert [stage for _, stage, _ in _dead(outbox)] == ["infer"] * count


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_records_fail_and_the_golden_batch_too_the_pipeline_stops(count: int) -> None:
    bench = Bench()
    bench.pipeline.model_broken = True
    with pytest.raises(ModelFailing, match="golden batch differs"):
        bench(batch([b"x"] * count))


def test_poison_of_another_stage_does_not_hide_a_model_that_fails_for_all_it_gets() -> None:
    bench = Bench()
    bench.pipeline.model_broken = True
    with pytest.raises(ModelFailing):
        bench(batch([b"poison"] * 30 + [b"x"] * 30))


def test_the_limit_on_dead_letters_stops_the_micro_batch() -> None:
    bench = Bench(guard=DeadLetter(max_consecutive=4))
    bench(batch([b"poison"] * 3))
    with pytest.raises(DeadLetterLimit):
        bench(batch([b"poison"] * 3, start=3))


class Odd(CountingPipeline):
    """Its model answers with something else than one prediction a row."""

    answer: Callable[[Any], Any]

    def infer(self, features: Any) -> Any:
        return type(self).answer(features)


@pytest.mark.parametrize(
    "answer",
    [lambda rows: np.ones(1, np.float32), lambda rows: np.ones((len(rows), 1), np.float32), lambda rows: rows[:-1, 0]],
    ids=["one for all", "a column", "one too few"],
)
def test_a_model_with_the_wrong_number_of_predictions_never_gives_any(answer: Callable[[Any], Any]) -> None:
    odd = Odd(TOPIC, OUT)
    Odd.answer = staticmethod(answer)
    with pytest.raises(ModelFailing):
        Bench(odd)(batch([b"x"] * 32))


def test_an_exception_in_decode_costs_the_record_that_caused_it() -> None:
    class Fragile(CountingPipeline):
        def decode(self, batch: RecordBatch) -> Any:
            if b"bomb" in batch.values:
                raise RecursionError("too deep")
            return super().decode(batch)

    (outbox,) = Bench(Fragile(TOPIC, OUT))(batch([b"x", b"bomb", b"x", b"poison", b"x"], start=3))
    assert [offset for _, offset, _ in _outputs(outbox)] == [3, 5, 7]
    assert _dead(outbox) == [(b"bomb", "decode", 4), (b"poison", "decode", 6)]


def test_any_split_into_batches_gives_the_same_predictions() -> None:
    draw = np.random.default_rng(0)
    values = [b"x"] * 200
    for row in draw.choice(200, 25, replace=False):
        values[row] = BAD[STAGES[int(row) % 5]]
    keys: Sequence[bytes] = [f"k{number}".encode() for number in draw.integers(0, 7, 200)]
    expected: list[Any] | None = None
    for size in (200, 64, 7, 1):
        bench, found = Bench(), []
        for start in range(0, 200, size):
            rows = slice(start, min(200, start + size))
            for box in bench(batch(values[rows], keys=keys[rows], start=start)):
                found += [*_outputs(box), *_dead(box)]
        found.sort(key=lambda each: each[1] if isinstance(each[1], int) else each[2])
        expected = expected or found
        assert found == expected
