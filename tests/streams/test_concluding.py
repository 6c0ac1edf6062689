"""A pipeline whose state follows its predictions: order, bisection, other topics, predictions of any shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import ModelFailing
from streams.pipeline import Beside, Rows
from streams.processor import Processor
from streams.records import Outbox, RecordBatch
from streams.state import KeyedState
from tests.counting import CountingPipeline, CountStore, Events
from tests.streams.inmemory import TOPIC, batch

OUT, ALERTS, CHANGELOG = "counts", "alerts", "counts.changelog"


class Noted(Events):
    """Events, and what `conclude` has noted of each."""

    notes: list[int]

    def take(self, rows: Rows) -> Noted:
        taken = super().take(rows)
        taken.notes = [self.notes[row] for row in rows.tolist()]
        return taken


class Concluding(CountingPipeline):
    """Predicts a pair; counts keys once it has; tells another topic of every second of a key, twice."""

    prediction_shape: tuple[int, ...] = (2,)

    def decode(self, batch: RecordBatch) -> Any:
        decoded = super().decode(batch)
        events = decoded.columns
        decoded.columns = Noted(events.keys, events.offsets, events.values)
        decoded.columns.notes = [0] * len(events)
        return decoded

    def features(self, columns: Any, store: CountStore) -> NDArray[np.float32]:
        return np.array([[value == b"nan"] for value in columns.values], np.float32)

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.hstack((np.where(features > 0, np.nan, 1), np.ones_like(features))).astype(np.float32)

    def conclude(self, columns: Any, rows: Rows, predictions: NDArray[np.float32], store: CountStore) -> None:
        picked = rows.tolist()
        self._fail("conclude", [columns.values[row] for row in picked])
        for row in picked:
            columns.notes[row] = store.count(columns.keys[row], columns.offsets[row]) * int(predictions[row, 0])

    def encode(self, columns: Any, features: Any, predictions: NDArray[np.float32]) -> list[bytes]:
        self._fail("encode", columns.values)
        assert predictions.shape == (len(columns), 2)
        return [json.dumps(note).encode() for note in columns.notes]

    def beside(self, columns: Any) -> Sequence[Beside]:
        return [
            Beside(ALERTS, place, f"{note}.{again}".encode())
            for place, note in enumerate(columns.notes)
            if note % 2 == 0
            for again in range(2)
        ]


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


def test_predictions_of_another_shape_stop_the_pipeline() -> None:
    pipeline = Concluding(TOPIC, OUT)
    pipeline.prediction_shape = (3,)
    with pytest.raises(ModelFailing, match=r"got \[2, 2\]"):
        _run([b"x", b"x"], pipeline)
