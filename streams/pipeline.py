"""What a domain brings: how its records are decoded, what a model sees of them, and how predictions are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.errors import PoisonEvent
from streams.records import Headers, RecordBatch
from streams.tables import Table

Rows = NDArray[np.intp]
Features = NDArray[np.floating[Any]]


class Columns(Protocol):
    """The decoded events of one record batch, columnar."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Self:
        """The same columns, `rows` only, in that order."""


C = TypeVar("C", bound=Columns)
C_in = TypeVar("C_in", bound=Columns, contravariant=True)


@dataclass(slots=True)
class Decoded(Generic[C]):
    """What `Pipeline.decode` made of a record batch.

    Args:
        columns: the good events.
        rows: int[len(columns)]: the row in the record batch that each good event came from, rising.
        poison: row in the record batch -> why it can never succeed.
    """

    columns: C
    rows: Rows
    poison: dict[int, PoisonEvent] = field(default_factory=dict)


def without(decoded: Decoded[C], wrong: Mapping[int, PoisonEvent]) -> Decoded[C]:
    """Move the events at these places over to the poison."""
    if not wrong:
        return decoded
    rows = decoded.rows.tolist()
    poison = decoded.poison | {rows[place]: error for place, error in wrong.items()}
    good = np.delete(np.arange(len(rows)), list(wrong))
    return Decoded(decoded.columns.take(good), decoded.rows[good], poison)


class Freshness(Protocol):
    """What may be left out where a worker cannot keep up; a pipeline without one serves every record."""

    def shed(self, batches: Sequence[RecordBatch], now_s: float, seconds_each: float) -> list[RecordBatch]:
        """The record batches that wait, as many, in order, without what need not be served (`RecordBatch.without`).

        Args:
            seconds_each: how long a record takes to be served, of late; 0 before any was.
        """


class Served(Protocol[C_in]):
    """One version of a pipeline's model, ready to serve; what a swap replaces. Threads are those of `Pipeline`."""

    @property
    def model(self) -> str:
        """Its reference, e.g. `fraud/2`."""

    @property
    def engine(self) -> str:
        """What runs it; another one from a micro-batch on where a device fails."""

    @property
    def engine_reason(self) -> str:
        """Which better engines do not run it, and why; empty where the best one does, or the one that was asked for.

        One line of at most 200 bytes in UTF-8 without control characters, for it goes into every prediction's headers.
        Asked for with every micro-batch: put together only where it changes, as `streams.engine_reason` does.
        """

    def infer(self, features: Features) -> NDArray[np.float32]:
        """float32[n, ...]: one prediction a row, over the rows of several partitions; finite, or the row fails."""

    def encode(self, columns: C_in, features: Features, predictions: NDArray[np.float32]) -> Sequence[bytes]:
        """The output record's value for each event."""

    def check_model(self) -> None:
        """Replay the golden batch.

        Raises:
            ModelError: the model itself is broken, not the records.
        """


class Opened(Served[C_in], Protocol[C_in]):
    """A served version that holds an engine."""

    def close(self) -> None:
        """Release it."""


def origin(served: Served[Any]) -> Headers:
    """The headers that say what a prediction comes from. Ask after `infer`: the engine may have changed in it."""
    headers: Headers = [("model", served.model.encode()), ("engine", served.engine.encode())]
    if reason := served.engine_reason:
        headers.append(("engine-reason", reason.encode()))
    return headers


class Pipeline(Protocol[C]):
    """What a domain brings; batching, dead letters, state, commits and metrics come to it for free.

    The event loop waits for none of it. One thread decodes and computes features, one call at a time; another one
    infers and encodes what the first has prepared, while that goes on with the next micro-batch.
    """

    name: str
    input_topic: str
    output_topic: str
    served: Served[C]
    """What answers now; replaced between two micro-batches."""
    table: Table | None
    """What it keeps of all partitions, or None."""

    def warm_up(self) -> None:
        """Compile and load what the first batch would otherwise wait for."""

    def new_store(self) -> Any:
        """An empty `Store` for one partition, or None for a pipeline without state."""

    def decode(self, batch: RecordBatch) -> Decoded[C]:
        """Parse and validate; a bad record is an entry in `poison`, never an exception."""

    def features(self, columns: C, store: Any) -> Features:
        """[n, ...]: what the model sees, with the state of the batch's partition applied and updated.

        An exception must leave the state as it was: the records are tried again in halves.
        """


class Following(Pipeline[C], Protocol):
    """A pipeline whose state follows what the model predicts, and which may write to topics beside its output.

    It infers where it decodes, in a thread for each of its instances. The other thread concludes and encodes, or, of
    several instances' micro-batches, the event loop does where that takes a moment (`streams.runner.MOMENT_S`).

    Attributes that any pipeline may have as well: `freshness` (a `Freshness`), `batch` (`settings.Batch`, in place of
    the section of that name), `max_message_bytes` (of its input topic, where the broker's own limit is too low),
    `event_time` (record batch -> ms of its first event, or None; then of a backlog what is oldest comes first).
    """

    prediction_shape: tuple[int, ...]
    """Of one row's prediction; that of other pipelines is a single number."""
    topics_beside: tuple[str, ...]
    """What it writes to beside its output."""
    instances: int
    """How many micro-batches are decoded and inferred at once, in as many threads; with more than one, `features`
    leaves the store alone."""

    def conclude(self, columns: C, rows: Rows, predictions: NDArray[np.float32], store: Any, served: Served[C]) -> None:
        """Apply the predictions of these rows, in order, to the state of their partition, and note in the columns what
        `Served.encode` and `beside` shall write of it.

        An exception must leave state and columns as they were: the rows are tried again in halves.

        Args:
            rows: rising places among the columns.
            predictions: of all columns.
            served: what has predicted them; another version may serve by now.
        """

    def beside(self, columns: C) -> Sequence[Beside]:
        """Records for other topics, those of one event behind each other."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A record that an event gives rise to beside its prediction; its key is the event's.

    Args:
        place: of the event among the columns.
    """

    topic: str
    place: int
    value: bytes
