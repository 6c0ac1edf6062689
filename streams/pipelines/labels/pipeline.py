"""Labels in, outcomes out: what a transaction turned out to be, beside the score that it had had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS
from models.fraud.label_rows import Hashes
from models.fraud.label_store import LabelStore
from streams.clock import Clock, SystemClock
from streams.decoding import EARLIEST_MS, EventDecoder, wrong_keys
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows, without
from streams.pipelines.labels.metrics import LabelMetrics
from streams.pipelines.labels.scores import ScoreTable, card_hashes, transaction_hashes
from streams.records import RecordBatch
from streams.schemas import FraudLabel, FraudOutcome, milliseconds
from streams.settings import Fraud, Labels

SCORE_DIGITS = 6
# Flags of the last minutes may not have been read yet, nor the transactions scored: nothing is asked about them.
FRESH_MS = 2 * 60 * 1000


@dataclass(slots=True)
class LabelColumns:
    """Decoded labels of one partition, columnar."""

    events: list[FraudLabel]
    transactions: Hashes
    event_time_ms: NDArray[np.int64]
    label_time_ms: NDArray[np.int64]
    partition: int

    def __len__(self) -> int:
        return len(self.events)

    def take(self, rows: Rows) -> Self:
        return type(self)(
            [self.events[row] for row in rows.tolist()],
            self.transactions[rows],
            self.event_time_ms[rows],
            self.label_time_ms[rows],
            self.partition,
        )


class LabelsPipeline:
    """The label loop, as `streams.pipeline.Pipeline` asks for it. There is no model: a label is its own prediction.

    Poison is: a value over the size limit, bytes that are not the schema's JSON, a key that is not the card id, an
    event time before 2000, a label time further ahead of the clock than `labels.max_future_s` or before its event time,
    and a card that has had no score within the memory, though the scores of its partition have passed the event.

    Args:
        settings: its own.
        fraud: whose flags the labels are joined with.

    Attributes:
        table: to be filled by the worker's `streams.tables.TableReader`.
    """

    name = "labels"
    model = "labels/1"
    engine = "python"
    engine_reason = ""

    def __init__(self, settings: Labels, fraud: Fraud, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self.input_topic = settings.input
        self.output_topic = settings.output
        self.table = ScoreTable(settings, fraud, self._clock)
        self._memory_ms = int(settings.memory_days * DAY_MS)
        self._metrics = LabelMetrics(self.table, settings, self._clock)
        self._decoder = EventDecoder(FraudLabel, "a label", settings.max_value_bytes)
        self._encode = msgspec.json.Encoder().encode

    @property
    def served(self) -> Self:
        return self

    def warm_up(self) -> None:
        """Nothing here is compiled."""

    def new_store(self) -> LabelStore:
        return LabelStore(self._memory_ms)

    def assigned(self, stores: Mapping[int, LabelStore]) -> None:
        """The partitions that this worker has from now on, with their restored stores; the gauges are about these."""
        self._metrics.assigned(stores)

    def gauges(self) -> Mapping[str, float]:
        """Metric -> value, from any thread; cheap enough for an event loop, once a second."""
        return self._metrics.gauges()

    def observations(self) -> Mapping[str, NDArray[np.float64]]:
        """Metric -> what came since the last call, for histograms; from any thread."""
        return self._metrics.observations()

    def decode(self, batch: RecordBatch) -> Decoded[LabelColumns]:
        events, rows, poison = self._decoder.decode(batch.values)
        columns = LabelColumns(
            events,
            transaction_hashes(events),
            milliseconds([event.event_time for event in events]),
            milliseconds([event.label_time for event in events]),
            batch.partition,
        )
        wrong = wrong_keys([batch.keys[row] for row in rows.tolist()], "card_id", [e.card_id.encode() for e in events])
        decoded = without(Decoded(columns, rows, poison), wrong | self._wrong_times(columns))
        return without(decoded, self._unknown_cards(decoded.columns))

    def _wrong_times(self, columns: LabelColumns) -> dict[int, PoisonEvent]:
        times, labelled, events = columns.event_time_ms, columns.label_time_ms, columns.events
        limit_s = self._settings.max_future_s
        latest = int((self._clock.time() + limit_s) * 1000)
        found: dict[int, PoisonEvent] = {}
        for place in np.flatnonzero(labelled < times).tolist():
            message = (
                f"expected label_time at or after event_time {events[place].event_time!s}, "
                f"got {events[place].label_time!s}"
            )
            found[place] = PoisonEvent("decode", message, "LabelBeforeEvent")
        for place in np.flatnonzero(labelled > latest).tolist():
            message = f"expected label_time at most {limit_s:g} s ahead of the clock, got {events[place].label_time!s}"
            found[place] = PoisonEvent("decode", message, "LabelFromFuture")
        for place in np.flatnonzero(times < EARLIEST_MS).tolist():
            message = (
                "expected event_time, RFC 3339 or milliseconds since the epoch, not before the year 2000, "
                f"got {events[place].event_time!s}"
            )
            found[place] = PoisonEvent("decode", message, "EventTimeAbsurd")
        return found

    def _unknown_cards(self, columns: LabelColumns) -> dict[int, PoisonEvent]:
        """Labels of cards that the scores should have seen and have not; what cannot be told yet is left to wait."""
        if not len(columns):
            return {}
        asked = min(int(columns.label_time_ms.max()), int(self._clock.time() * 1000) - FRESH_MS)
        reached = self.table.reached(asked)
        newest, newest_of_own = self.table.newest_ms, self.table.newest_of(columns.partition)
        if not reached or newest is None or newest_of_own is None:
            return {}
        passed = columns.event_time_ms <= min(asked, newest_of_own)
        remembered = columns.event_time_ms >= newest - self._memory_ms
        unknown = passed & remembered & ~self.table.knows(card_hashes(columns.events))
        return {
            place: PoisonEvent(
                "decode", f"expected a card that has been scored, got {columns.events[place].card_id!r}", "UnknownCard"
            )
            for place in np.flatnonzero(unknown).tolist()
        }

    def features(self, columns: LabelColumns, store: LabelStore) -> NDArray[np.float32]:
        fraud = np.array([event.fraud for event in columns.events], np.bool_)
        new = store.apply(columns.transactions, columns.event_time_ms, fraud, columns.label_time_ms)
        if self._metrics.stores.get(columns.partition) is not store:
            self._metrics.stores = {**self._metrics.stores, columns.partition: store}
        self._metrics.labelled(len(columns), _ages_s(columns)[new])
        return fraud.astype(np.float32)

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return features

    def encode(
        self, columns: LabelColumns, features: NDArray[np.float32], predictions: NDArray[np.float32]
    ) -> list[bytes]:
        found = self.table.find(columns.transactions)
        event_times, label_times = _rfc3339(columns.event_time_ms), _rfc3339(columns.label_time_ms)
        outcomes = [
            FraudOutcome(event.transaction_id, event.card_id, event.fraud, event_time, label_time, age_s)
            for event, event_time, label_time, age_s in zip(
                columns.events, event_times, label_times, _ages_s(columns).tolist(), strict=True
            )
        ]
        scores = np.round(found.rows["score"].astype(np.float64), SCORE_DIGITS).tolist()
        flagged, verdicts = found.rows["flagged"].tolist(), found.rows["verdict"].tolist()
        for row in np.flatnonzero(found.held).tolist():
            outcome = outcomes[row]
            outcome.score, outcome.flagged = scores[row], flagged[row]
            outcome.decision, outcome.model = found.verdicts[verdicts[row]]
        return [self._encode(outcome) for outcome in outcomes]

    def check_model(self) -> None:
        """There is none that could be broken."""

    def close(self) -> None:
        """Nothing is held open."""


def _ages_s(columns: LabelColumns) -> NDArray[np.float64]:
    return (columns.label_time_ms - columns.event_time_ms) / 1000


def _rfc3339(times_ms: NDArray[np.int64]) -> list[str]:
    return [f"{time}Z" for time in np.datetime_as_string(times_ms.view("M8[ms]"), unit="ms").tolist()]
