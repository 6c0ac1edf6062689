"""A pipeline whose state follows its predictions: order, bisection, other topics, predictions of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streams.errors import ModelFailing
from streams.processor import Processor
from streams.records import Outbox
from streams.state import KeyedState
from tests.counting import CountStore
from tests.streams.concluding import ALERTS, OUT, Concluding
from tests.streams.inmemory import TOPIC, batch

CHANGELOG = "counts.changelog"


def _run(values: list[bytes], pipeline: Any = None) -> Outbox:
    state = KeyedState(CHANGELOG, CountStore)
    processor = Processor(pipeline or Concluding(TOPIC, OUT), state)
    return processor.process([batch(values, start=5, partition=3)]).outboxes[0]


def _values(outbox: Outbox, topic: str) -> list[bytes | None]:
    return [value for each in outbox.outgoing if each.topic == topic for value in each.values]


def test_state_moves_in_order_and_its_changes_go_with_the_outputs() -> None:
    outbox = _run([b"x"] * 3)
    assert _values(outbox, OUT) == [b"1", b"2", b"3"]
    (changes,) = [each for each in outbox.outgoing if each.topic == CHANGELOG]
    assert _counts(changes.keys, changes.values) == {b"k": (3, 7)}


def _counts(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> dict[bytes, tuple[int, ...]]:
    store = CountStore()
    store.merge([key or b"" for key in keys], values)
    return {key: tuple(entry) for key, entry in store.counts.items()}


def test_records_for_another_topic_carry_the_key_and_an_id_of_their_own() -> None:
    outbox = _run([b"x", b"poison", b"x"])
    (alerts,) = [each for each in outbox.outgoing if each.topic == ALERTS]
    assert (alerts.keys, alerts.values) == ([b"k", b"k"], (b"2.0", b"2.1"))
    assert [dict(alerts.headers_of(row))["id"] for row in range(2)] == [b"events/3/7/0", b"events/3/7/1"]
    assert dict(alerts.headers_of(0))["model"] == b"counting/1"
    assert outbox.outputs == 2, "alerts are not predictions"


@pytest.mark.parametrize("bad", [b"bad:conclude", b"nan", b"bad:encode"])
def test_one_that_fails_costs_itself_only(bad: bytes) -> None:
    outbox = _run([b"x", b"x", bad, b"x", b"x"])
    counted = b"5" if bad == b"bad:encode" else b"4"
    assert _values(outbox, OUT)[-1] == counted
    assert len(_values(outbox, OUT)) == 4
    assert sum(outbox.poison.values()) == 1


def test_a_micro_batch_of_which_the_model_takes_nothing_is_poison_while_its_golden_batch_holds() -> None:
    class Refusing(Concluding):
        def infer(self, features: Any) -> Any:
            raise RuntimeError("no such picture")

    outbox = _run([b"x", b"x"], Refusing(TOPIC, OUT))
    assert outbox.poison == {("infer", "RuntimeError"): 2}
    assert not _values(outbox, OUT)


def test_what_follows_belongs_to_the_version_that_has_predicted() -> None:
    asked: list[Any] = []

    class Asking(Concluding):
        def conclude(self, columns: Any, rows: Any, predictions: Any, store: Any, served: Any) -> None:
            asked.append(served)
            super().conclude(columns, rows, predictions, store, served)

    pipeline = Asking(TOPIC, OUT)
    _run([b"x"], pipeline)
    assert asked == [pipeline.served]


def test_predictions_of_another_shape_stop_the_pipeline() -> None:
    pipeline = Concluding(TOPIC, OUT)
    pipeline.prediction_shape = (3,)
    with pytest.raises(ModelFailing, match=r"got \[2, 2\]"):
        _run([b"x", b"x"], pipeline)
