"""A challenger beside the champion: in the shadow of all events, or answering for a share of the keys.

It can neither delay nor fail the champion. In the shadow it computes in a thread of its own, with a bounded queue and a
budget of time; what does not fit is dropped and counted. As a canary it computes with the champion, which has answered
all events before; where the challenger fails, that answer stands.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock, SystemClock
from streams.emitter import Letters
from streams.pipeline import C, Features, Opened, Rows, origin
from streams.records import Headers, Outbox, Outgoing, RecordBatch
from streams.schemas import Comparison
from streams.telemetry import Telemetry

logger = logging.getLogger(__name__)

QUEUED = 4  # micro-batches' worth of one partition that wait; more would only be older
DIGITS = 6
SCATTER = 0x9E3779B97F4A7C15  # 2^64 by the golden ratio: keys that a partitioner has put together fall apart again


@dataclass(slots=True)
class Scored(Generic[C]):
    """Events of one record batch that the champion has answered.

    `rows` are theirs in the batch; `model` is the champion's reference.
    """

    batch: RecordBatch
    rows: Rows
    columns: C
    features: Features
    predictions: NDArray[np.float32]
    model: str

    def take(self, places: Rows) -> Scored[C]:
        """Some of them."""
        return Scored(
            self.batch,
            self.rows[places],
            self.columns.take(places),
            self.features[places],
            self.predictions[places],
            self.model,
        )


@dataclass(slots=True)
class Answered:
    """What a canary has answered in the champion's place: `places` among the scored events, values, common headers."""

    places: Rows
    values: Sequence[bytes]
    headers: Headers


@dataclass(slots=True)
class _Item:
    scored: Scored[Any]
    predictions: NDArray[np.float32] | None  # the challenger's, where it has computed them


class Challenger(Generic[C]):
    """One version beside the one that serves. `see` belongs to the compute thread.

    Args:
        served: is closed by `stop`.
        share: of the keys that it answers for; 0: none, it is in the shadow.
        topic: where comparisons go, keyed like the events.
        publish: takes comparisons, ready to be sent; called from the challenger's own thread.
        budget: share of one thread's time that the shadow may take.
    """

    def __init__(
        self,
        served: Opened[C],
        share: float,
        topic: str,
        publish: Callable[[Letters], object],
        telemetry: Telemetry,
        budget: float,
        clock: Clock | None = None,
    ) -> None:
        self.served, self.share = served, share
        self._topic, self._publish, self._telemetry, self._budget = topic, publish, telemetry, budget
        self._clock = clock or SystemClock()
        self._encode = msgspec.json.Encoder().encode
        self._queue: queue.Queue[_Item] = queue.Queue(QUEUED)
        self._stopped = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="challenger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Compute nothing more, and release the engine."""
        self._stopped.set()

    def see(self, scored: Scored[C]) -> Answered | None:
        """Take events that the champion has answered. Never raises, never waits.

        Returns:
            The canary's own answers for its keys; None where it has none.
        """
        if not self.share:
            self._offer(_Item(scored, None))
            return None
        places = chosen([scored.batch.keys[row] for row in scored.rows.tolist()], self.share)
        if not len(places):
            return None
        part = scored.take(places)
        try:
            predictions = self._infer(part)
            values = self.served.encode(part.columns, part.features, predictions)
        except Exception as error:  # whatever it raises, the champion's answers are there
            self._failed(len(places), error)
            return None
        self._telemetry.add("headrace_challenger_records_total", len(places), "answered")
        self._offer(_Item(part, predictions))
        return Answered(places, values, origin(self.served))

    def _infer(self, scored: Scored[C]) -> NDArray[np.float32]:
        predictions = self.served.infer(scored.features)
        if predictions.shape != scored.predictions.shape or not np.isfinite(predictions).all():
            raise ValueError(
                f"expected {len(scored.predictions)} finite predictions, got {list(predictions.shape)}, "
                f"{np.count_nonzero(~np.isfinite(predictions))} of them not finite"
            )
        self._failing = False
        return predictions

    def _failed(self, records: int, error: Exception) -> None:
        self._telemetry.add("headrace_challenger_records_total", records, "failed")
        if not self._failing:  # once, not for every micro-batch
            logger.warning("challenger %s failed on %d records: %s", self.served.model, records, error)
        self._failing = True

    def _offer(self, item: _Item) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._telemetry.add("headrace_challenger_records_total", len(item.scored.rows), "dropped")

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            started = self._clock.monotonic()
            try:
                predictions = self._infer(item.scored) if item.predictions is None else item.predictions
                self._publish(self._compared(item.scored, predictions))
            except Exception as error:  # likewise
                self._failed(len(item.scored.rows), error)
            else:
                self._telemetry.add("headrace_challenger_records_total", len(item.scored.rows), "compared")
            self._stopped.wait((self._clock.monotonic() - started) * (1 / self._budget - 1))
        self.served.close()

    def _compared(self, scored: Scored[C], predictions: NDArray[np.float32]) -> Letters:
        batch = scored.batch
        prefix = f"{batch.topic}/{batch.partition}/"
        rows, answered = scored.rows.tolist(), bool(self.share)
        old = np.round(scored.predictions.astype(np.float64), DIGITS).tolist()
        new = np.round(predictions.astype(np.float64), DIGITS).tolist()
        champion, challenger = scored.model, self.served.model
        values = [
            self._encode(Comparison(f"{prefix}{batch.offsets[row]}", champion, challenger, was, would_be, answered))
            for row, was, would_be in zip(rows, old, new, strict=True)
        ]
        outbox = Outbox(batch.partition, records=len(rows))
        outbox.add(Outgoing(self._topic, [batch.keys[row] for row in rows], values))
        return Letters(outbox, int(self._clock.time() * 1000))


def chosen(keys: Sequence[bytes | None], share: float) -> Rows:
    """Places of the keys that belong to a share of all keys; a key always does, or never. One that is absent does not.

    A larger share holds all keys of a smaller one.
    """
    hashes = np.fromiter((crc32(key or b"") for key in keys), np.uint64, len(keys))
    scattered = (hashes * np.uint64(SCATTER)) >> np.uint64(32)
    present = np.array([key is not None for key in keys], np.bool_)
    return np.flatnonzero(present & (scattered < share * 2.0**32))
