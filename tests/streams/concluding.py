"""A pipeline without a network whose state follows its predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.pipeline import Beside, Rows
from streams.records import RecordBatch
from tests.counting import CountingPipeline, CountStore, Events

OUT, ALERTS = "counts", "alerts"


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

    def conclude(
        self, columns: Any, rows: Rows, predictions: NDArray[np.float32], store: CountStore, served: Any
    ) -> None:
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
