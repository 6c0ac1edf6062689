"""From record batches to outboxes: decode, state and features, infer, encode; one bad record never costs its batch."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelError
from streams.challenger import Answered, Challenger, Scored
from streams.clock import Clock, SystemClock
from streams.deadletter import DeadLetterGuard, dead_letters
from streams.errors import ModelFailing, PoisonEvent
from streams.gate import Gate
from streams.isolation import as_poison, isolate
from streams.pipeline import C, Decoded, Features, Following, Opened, Pipeline, Rows, Served, origin
from streams.records import Headers, Outbox, Outgoing, Processed, RecordBatch
from streams.state import KeyedState

# From this many failures without a single success the model is at fault, whatever its golden batch says.
FAILING_RECORDS = 16

T = TypeVar("T")


@dataclass(slots=True)
class _Work(Generic[C]):
    """One record batch on its way through the stages."""

    batch: RecordBatch
    columns: C
    rows: Rows
    poison: dict[int, PoisonEvent]
    features: Features
    predictions: NDArray[np.float32]
    store: Any
    logged: Sequence[bytes] = ()
    changes: tuple[Sequence[bytes], Sequence[bytes | None]] = ((), ())

    def keep(self, good: Rows) -> None:
        """Go on with these rows only."""
        if len(good) < len(self.rows):
            self.columns = self.columns.take(good)
            self.rows = self.rows[good]
            self.features = self.features[good]
            self.predictions = self.predictions[good]


@dataclass(frozen=True, slots=True)
class Begun(Generic[C]):
    """A micro-batch on its way: `Processor.finish` makes outboxes of it."""

    works: Sequence[_Work[C]]
    served: Served[C]
    processed: Processed


_NONE = np.empty(0, np.float32)


class Processor(Generic[C]):
    """Runs a pipeline over micro-batches, in two halves that share the work.

    Thread rule: `begin` and `finish` may run beside each other, each in the order of the input and one call at a time;
    `begin` in as many threads at once as the pipeline has `instances`.

    Args:
        pipeline: the domain.
        state: its keyed state, or None.
        table_log: the topic of its table's log, or None.
        guard: the dead-letter limit; None where there is no dead-letter topic to drain into.

    Attributes:
        challenger: sees what the champion has answered; set beside a micro-batch, it sees that or the next one first.
    """

    def __init__(
        self,
        pipeline: Pipeline[C],
        state: KeyedState | None = None,
        guard: DeadLetterGuard | None = None,
        clock: Clock | None = None,
        table_log: str | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.state = state
        self._table_log = table_log
        self._guard = guard
        self._clock = clock or SystemClock()
        self._following = cast("Following[C] | None", pipeline if hasattr(pipeline, "conclude") else None)
        self._shape = () if self._following is None else self._following.prediction_shape
        self.challenger: Challenger[C] | None = None
        self._gate = Gate()
        self._counting = threading.Lock()
        self._begun: Counter[int] = Counter()  # micro-batches that are not finished, by the version that they are of
        self._retired: list[Opened[C]] = []

    def process(self, batches: Sequence[RecordBatch]) -> Processed:
        """One micro-batch: record batches of one topic, in order for each partition.

        Raises:
            DeadLetterLimit: too many poison events; nothing of this micro-batch may be produced.
            ModelFailing: the model fails for all of them; likewise.
        """
        return self.finish(self.begin(batches))

    def begin(self, batches: Sequence[RecordBatch]) -> Begun[C]:
        """Decode and compute features; infer, too, where several instances do so beside each other.

        Raises:
            ModelFailing: as `process`.
        """
        # All of them now: a revocation may put another store in a partition's place, which a restore fills meanwhile.
        stores = [None if self.state is None else self.state.store(batch.partition) for batch in batches]
        with self._gate.passing():
            begun = self._begin(batches, stores)
            with self._counting:
                self._begun[id(begun.served)] += 1
            return begun

    def exchange(self, opened: Opened[C]) -> None:
        """Serve this version from the next micro-batch on; close the one before once all that it began is finished."""
        with self._gate.alone():
            before, self.pipeline.served = self.pipeline.served, opened
        with self._counting:
            self._retired.append(cast("Opened[C]", before))
        self._close_retired()

    @property
    def steady(self) -> bool:
        """Whether nothing is served but the champion, and no version before it waits for its end."""
        return self.challenger is None and not self._retired

    def _close_retired(self) -> None:
        with self._counting:
            unused = [each for each in self._retired if not self._begun[id(each)]]
            self._retired = [each for each in self._retired if self._begun[id(each)]]
        for served in unused:
            served.close()

    def _begin(self, batches: Sequence[RecordBatch], stores: Sequence[Any]) -> Begun[C]:
        processed = Processed(records=sum(map(len, batches)))
        seconds, now = processed.stage_seconds, self._clock.monotonic
        started = now()
        served = self.pipeline.served  # one version from here to the headers
        works = [self._decode(batch, store) for batch, store in zip(batches, stores, strict=True)]
        seconds["decode"], started = now() - started, now()
        self._remember(works)
        for work in works:
            self._features(work)
        seconds["features"] = now() - started
        if self._following is not None:
            self._infer(works, served, seconds)
        return Begun(works, served, processed)

    def finish(self, begun: Begun[C]) -> Processed:
        """Infer what has no predictions yet, apply them to the state that follows them, and write what comes of it.

        Raises:
            DeadLetterLimit, ModelFailing: as `process`.
        """
        try:
            return self._finish(begun)
        finally:
            with self._counting:
                self._begun[id(begun.served)] -= 1
            if self._retired:
                self._close_retired()

    def _finish(self, begun: Begun[C]) -> Processed:
        works, served, processed = begun.works, begun.served, begun.processed
        seconds, now = processed.stage_seconds, self._clock.monotonic
        if self._following is None:
            self._infer(works, served, seconds)
        started = now()
        if self._following is not None:
            for work in works:
                self._conclude(work, self._following, served)
            seconds["conclude"], started = now() - started, now()
        values = [self._encode(work, served) for work in works]
        for work, encoded in zip(works, values, strict=True):
            if self._guard is not None and len(work.batch):
                self._guard.check(work.batch, work.poison)
            processed.outboxes.append(self._outbox(work, encoded, served, self._challenge(work, served)))
        seconds["encode"] = now() - started
        return processed

    def _decode(self, batch: RecordBatch, store: Any) -> _Work[C]:
        if not len(batch):  # all of it was shed
            return _Work(batch, cast(C, ()), np.arange(0), {}, _NONE, _NONE, store)
        try:
            decoded = self.pipeline.decode(batch)
        except Exception:  # a domain's oversight, e.g. RecursionError: it must not stop the pipeline for ever
            decoded = self._decode_good(batch)
        return _Work(batch, decoded.columns, decoded.rows, decoded.poison, _NONE, _NONE, store)

    def _decode_good(self, batch: RecordBatch) -> Decoded[C]:
        decode = self.pipeline.decode
        _, good, failed = isolate(lambda rows: decode(batch if rows is None else batch.take(rows.tolist())), len(batch))
        poison = {row: as_poison("decode", error) for row, error in failed.items()}
        if not len(good):
            return Decoded(cast(C, ()), good, poison)
        decoded = decode(batch.take(good.tolist()))
        poison |= {int(good[row]): error for row, error in decoded.poison.items()}
        return Decoded(decoded.columns, good[decoded.rows], poison)

    def _remember(self, works: Sequence[_Work[C]]) -> None:
        """All partitions' events go into the table before any of them asks it."""
        table = self.pipeline.table
        if table is not None:
            for work in works:
                if len(work.rows):
                    work.logged = table.append(work.batch.partition, work.columns)

    def _features(self, work: _Work[C]) -> None:
        store, columns = work.store, work.columns
        parts, good, failed = isolate(
            lambda rows: self.pipeline.features(columns if rows is None else columns.take(rows), store), len(work.rows)
        )
        if parts:
            work.features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if failed:
            work.poison |= {int(work.rows[row]): as_poison("features", error) for row, error in failed.items()}
            work.columns, work.rows = columns.take(good), work.rows[good]
        if self.state is not None and self._following is None:
            # Before the next batch of this partition: its changes must not be committed without its input.
            work.changes = store.changes()

    def _infer(self, works: Sequence[_Work[C]], served: Served[C], seconds: dict[str, float]) -> None:
        started = self._clock.monotonic()
        self._predict([work for work in works if len(work.rows)], served)
        seconds["infer"] = self._clock.monotonic() - started

    def _predict(self, works: Sequence[_Work[C]], served: Served[C]) -> None:
        if not works:
            return
        features = works[0].features if len(works) == 1 else np.concatenate([work.features for work in works])
        parts, good, failed = isolate(
            lambda rows: served.infer(features if rows is None else features[rows]), len(features)
        )
        given = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty((0, *self._shape), np.float32)])
        if given.shape != (len(good), *self._shape):
            raise ModelFailing(
                f"model {served.model} on {served.engine}: expected {len(good)} predictions for "
                f"as many rows, got {list(given.shape)}; the pipeline stops and nothing is committed"
            )
        predictions = given.astype(np.float32, copy=False)
        if failed:
            predictions = np.full((len(features), *self._shape), np.nan, np.float32)
            predictions[good] = given
        bad = np.asarray(~np.isfinite(predictions).all(axis=tuple(range(1, predictions.ndim))), np.bool_)
        if bad.any():
            self._blame(served, int(bad.sum()), len(features), next(iter(failed.values()), None))
        start = 0
        for work in works:
            stop = start + len(work.rows)
            work.predictions = predictions[start:stop]
            for row in np.flatnonzero(bad[start:stop]):
                error = failed.get(start + int(row)) or PoisonEvent(
                    "infer", f"expected a finite prediction, got {_odd(predictions[start + row])}", "NonFinite"
                )
                work.poison[int(work.rows[row])] = as_poison("infer", error)
            work.keep(np.flatnonzero(~bad[start:stop]))
            start = stop

    def _conclude(self, work: _Work[C], following: Following[C], served: Served[C]) -> None:
        count = len(work.rows)
        _, good, failed = isolate(
            lambda rows: following.conclude(
                work.columns, np.arange(count) if rows is None else rows, work.predictions, work.store, served
            ),
            count,
        )
        work.poison |= {int(work.rows[row]): as_poison("conclude", error) for row, error in failed.items()}
        work.keep(good)
        if self.state is not None:
            work.changes = work.store.changes()

    def _blame(self, served: Served[C], bad: int, records: int, error: Exception | None) -> None:
        """Poison, or a model that fails for every record? The latter must stop the pipeline."""
        if bad < records:
            return
        reason = "no finite prediction" if error is None else f"{type(error).__name__}: {error}"
        message = (
            f"model {served.model} on {served.engine} fails for every record of a micro-batch of "
            f"{records} ({reason}); the pipeline stops and nothing of it is committed"
        )
        if records >= FAILING_RECORDS:
            raise ModelFailing(message)
        try:
            served.check_model()
        except ModelError as golden:
            raise ModelFailing(f"{message}; its golden batch fails too: {golden}") from golden

    def _encode(self, work: _Work[C], served: Served[C]) -> Sequence[bytes]:
        if not len(work.rows):
            return []

        def encode(rows: Rows | None) -> Sequence[bytes]:
            if rows is None:
                return served.encode(work.columns, work.features, work.predictions)
            return served.encode(work.columns.take(rows), work.features[rows], work.predictions[rows])

        parts, good, failed = isolate(encode, len(work.rows))
        work.poison |= {int(work.rows[row]): as_poison("encode", error) for row, error in failed.items()}
        work.keep(good)
        return parts[0] if len(parts) == 1 else [value for part in parts for value in part]

    def _challenge(self, work: _Work[C], served: Served[C]) -> Answered | None:
        challenger = self.challenger
        if challenger is None or not len(work.rows):
            return None
        return challenger.see(
            Scored(work.batch, work.rows, work.columns, work.features, work.predictions, served.model)
        )

    def _outbox(self, work: _Work[C], values: Sequence[bytes], served: Served[C], answered: Answered | None) -> Outbox:
        batch, pipeline = work.batch, self.pipeline
        outbox = Outbox(
            batch.partition,
            outputs=len(values),
            records=len(batch),
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
        )
        if work.poison:
            outbox.poison = dict(Counter((error.stage, error.kind) for error in work.poison.values()))
            outbox.add(
                dead_letters(batch, work.poison, pipeline=pipeline.name, model=served.model, now_s=self._clock.time())
            )
        for outgoing in self._predictions(work, values, served, answered):
            outbox.add(outgoing)
        if self._following is not None:
            for outgoing in self._beside(work, self._following, served):
                outbox.add(outgoing)
        if self.state is not None:
            outbox.add(Outgoing(self.state.topic, *work.changes))
        if self._table_log is not None:
            outbox.add(Outgoing(self._table_log, [None] * len(work.logged), work.logged))
        return outbox

    def _predictions(
        self, work: _Work[C], values: Sequence[bytes], served: Served[C], answered: Answered | None
    ) -> Iterator[Outgoing]:
        """The champion's, and a canary's in the place of some: a key has its answers from one of them, so in order."""
        if answered is None:
            yield self._outgoing(work, None, values, origin(served))
            return
        others = np.delete(np.arange(len(values)), answered.places)
        yield self._outgoing(work, others, [values[place] for place in others.tolist()], origin(served))
        yield self._outgoing(work, answered.places, answered.values, answered.headers)

    def _beside(self, work: _Work[C], following: Following[C], served: Served[C]) -> Iterator[Outgoing]:
        """One for each topic; an event may have several, so their ids end in a number of its own."""
        batch, counts = work.batch, Counter[int]()
        by_topic: dict[str, list[tuple[int, bytes, Headers]]] = defaultdict(list)
        for each in following.beside(work.columns) if len(work.rows) else ():
            row = int(work.rows[each.place])
            identity = f"{batch.topic}/{batch.partition}/{batch.offsets[row]}/{counts[row]}"
            counts[row] += 1
            headers: Headers = [*origin(served), ("id", identity.encode())]
            by_topic[each.topic].append((row, each.value, headers))
        for topic, records in by_topic.items():
            rows, values, headers_of = zip(*records, strict=True)
            yield Outgoing(topic, [batch.keys[row] for row in rows], values, headers_of)

    def _outgoing(self, work: _Work[C], places: Rows | None, values: Sequence[bytes], headers: Headers) -> Outgoing:
        batch = work.batch
        offsets, keys = batch.offsets, batch.keys
        if len(values) < len(offsets):
            rows = (work.rows if places is None else work.rows[places]).tolist()
            offsets, keys = [offsets[row] for row in rows], [keys[row] for row in rows]
        return Outgoing(
            self.pipeline.output_topic,
            keys,
            values,
            common_headers=headers,
            id_prefix=f"{batch.topic}/{batch.partition}/".encode(),
            id_offsets=offsets,
        )


def _odd(prediction: NDArray[np.float32]) -> str:
    if prediction.ndim == 0:
        return str(prediction)
    odd = np.count_nonzero(~np.isfinite(prediction))
    return f"{odd} numbers that are not: the network gave NaN or infinity, or scores that are no probabilities"
