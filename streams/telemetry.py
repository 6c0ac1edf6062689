"""Every metric of a worker, in one table, and the object that feeds them: once a batch, never once a record."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streams.records import Processed, RecordBatch, shown_key

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing here asks for

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
AGES = tuple(3600.0 * hours for hours in (1, 6)) + tuple(86400.0 * days for days in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45))
BUCKETS: Mapping[str, Sequence[float]] = {"seconds": SECONDS, "records": RECORDS, "age": AGES}

COUNTED_AT_ONCE = 256  # observations: prometheus-client takes as long for one as for twenty this way
MOST_KEYS = 100  # that the drops are told apart by; those that come later are one
OTHER = "other"


@dataclass(frozen=True)
class Metric:
    """One row of the table; every metric also carries the label `pipeline`.

    Args:
        kind: `seconds`, `records` and `age` (in seconds, up to weeks) are histograms.
        common: whether every pipeline shows it from the start; another one is there once it has been fed.
    """

    kind: Literal["counter", "gauge", "seconds", "records", "age"]
    help: str
    labels: tuple[str, ...] = ()
    common: bool = True


METRICS: Mapping[str, Metric] = {
    "headrace_records_in_total": Metric(
        "counter", "Input records done with: equals out, dead-lettered and dropped, whatever was read twice on the way."
    ),
    "headrace_records_out_total": Metric("counter", "Predictions acknowledged by the broker."),
    "headrace_records_dead_lettered_total": Metric(
        "counter", "Input records sent to the dead-letter topic.", ("stage", "error_type")
    ),
    "headrace_records_dropped_total": Metric(
        "counter", "Input records left out since something newer of their key had come, under overload.", ("key",)
    ),
    "headrace_records_discarded_total": Metric(
        "counter", "Records computed but not produced because their partition was revoked; they are read again."
    ),
    "headrace_stage_seconds": Metric("seconds", "Time a micro-batch spends in a stage.", ("stage",)),
    "headrace_end_to_end_seconds": Metric(
        "seconds", "From the input record's timestamp to the broker's acknowledgement; the oldest record of a batch."
    ),
    "headrace_batch_records": Metric("records", "Records in a micro-batch."),
    "headrace_queue_records": Metric("gauge", "Records that wait for the engine."),
    "headrace_lag_records": Metric("gauge", "Records between the low-water mark and the log end.", ("partition",)),
    "headrace_lag_seconds": Metric(
        "gauge", "Age of the last processed record while there are records behind it.", ("partition",)
    ),
    "headrace_transactions_total": Metric(
        "counter", "Transactions of exactly_once: committed, aborted, or fenced by the next owner.", ("outcome",)
    ),
    "headrace_rebalances_total": Metric("counter", "Assignments received."),
    "headrace_assigned_partitions": Metric("gauge", "Partitions assigned now."),
    "headrace_restored_records_total": Metric("counter", "Changelog records read back."),
    "headrace_restore_seconds": Metric("seconds", "Time of a restore."),
    "headrace_state_keys": Metric("gauge", "Keys held in state."),
    "headrace_state_bytes": Metric("gauge", "Memory held by state."),
    "headrace_table_bytes": Metric("gauge", "Memory held by the table of all partitions."),
    "headrace_table_timeouts_total": Metric(
        "counter", "Questions to the table answered with what was there, since its topics could not be read."
    ),
    "headrace_tasks": Metric("gauge", "Tasks on the worker's event loop; steady unless something leaks."),
    "headrace_ready": Metric("gauge", "1 while the worker is ready, else 0."),
    "headrace_labels_matched": Metric(
        "gauge", "Labels held whose transaction has a score that came in time.", common=False
    ),
    "headrace_labels_waiting": Metric(
        "gauge", "Labels held whose transaction has no score, and may still get one.", common=False
    ),
    "headrace_labels_unknown": Metric(
        "gauge", "Labels held whose transaction got no score within labels.wait_days.", common=False
    ),
    "headrace_labels_superseded": Metric(
        "gauge", "Transactions with labels that contradict each other; the latest counts.", common=False
    ),
    "headrace_labels_expired": Metric("gauge", "Labels since the start that came too late to be held.", common=False),
    "headrace_labels_newest_age_seconds": Metric("gauge", "Age of the newest label by the clock.", common=False),
    "headrace_label_age_seconds": Metric(
        "age", "From a transaction to the label that counts, once for each that comes to count.", common=False
    ),
    "headrace_fraud_due_transactions": Metric(
        "gauge", "Transactions whose labels are due: those that the following four are about.", common=False
    ),
    "headrace_fraud_precision": Metric("gauge", "Share of fraud among those flagged.", common=False),
    "headrace_fraud_recall": Metric("gauge", "Share of those flagged among fraud.", common=False),
    "headrace_fraud_average_precision": Metric("gauge", "Average precision of the scores.", common=False),
    "headrace_fraud_calibration_error": Metric(
        "gauge", "Expected calibration error of the scores, over 20 bins of equal mass.", common=False
    ),
    "headrace_rollouts_total": Metric(
        "counter",
        "Rollouts of another version of the model: done, or failed, so that the old one goes on.",
        ("outcome",),
    ),
    "headrace_challenger_records_total": Metric(
        "counter",
        "Events that a challenger answered as a canary, compared, dropped for lack of time, or failed on.",
        ("outcome",),
    ),
    "headrace_comparison_records_lost_total": Metric("counter", "Comparisons that could not be written."),
    "headrace_drift_records": Metric("gauge", "Rows compared with the training sample; 0 while there is no verdict."),
    "headrace_drift_psi": Metric("gauge", "Population stability index against the training sample.", ("feature",)),
    "headrace_drift_ks": Metric("gauge", "Kolmogorov-Smirnov statistic against the training sample.", ("feature",)),
    "headrace_drift_pvalue": Metric("gauge", "Its p-value, of this feature alone.", ("feature",)),
    "headrace_drifting": Metric(
        "gauge", "1 for a feature, or the score, further from training than chance, custom and care.", ("feature",)
    ),
    "headrace_engine_passed_info": Metric(
        "gauge", "1 for each engine that would be better and does not serve; readiness says why.", ("engine",)
    ),
    "headrace_model_info": Metric("gauge", "1 for the model and engine in use.", ("model", "version", "engine")),
}


class Telemetry:
    """Feeds the metrics of one pipeline. prometheus-client locks, so any thread may.

    Args:
        pipeline: the label that every metric carries.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, pipeline: str) -> None:
        self._registry = CollectorRegistry()
        self._pipeline = pipeline
        self._metrics: dict[str, Any] = {}
        self._children: dict[tuple[str, ...], Any] = {}
        self._done_until_ms: dict[int, int] = {}
        self._named: dict[str, set[tuple[str, ...]]] = {}
        self._lagging: set[int] = set()
        self._observed: dict[tuple[str, ...], deque[float]] = {}
        self._dropping: set[str] = {OTHER}
        for name, metric in METRICS.items():
            labels = ("pipeline", *metric.labels)
            if metric.kind == "counter":
                self._metrics[name] = Counter(name, metric.help, labels, registry=self._registry)
            elif metric.kind == "gauge":
                self._metrics[name] = Gauge(name, metric.help, labels, registry=self._registry)
            else:
                buckets = BUCKETS[metric.kind]
                self._metrics[name] = Histogram(name, metric.help, labels, buckets=buckets, registry=self._registry)
            if metric.common and not metric.labels:
                self._child(name)

    def _child(self, name: str, *labels: str) -> Any:
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._metrics[name].labels(self._pipeline, *labels)
        return child

    def value(self, name: str, *labels: str) -> float:
        """What a counter or a gauge stands at."""
        return float(self._child(name, *labels)._value.get())

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._child(name, *labels).set(value)

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count a counter up."""
        self._child(name, *labels).inc(amount)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram; it is counted with others, at the latest when the page is asked for."""
        key = (name, *labels)
        observed = self._observed.get(key)
        if observed is None:
            observed = self._observed.setdefault(key, deque())
        observed.append(value)
        if len(observed) >= COUNTED_AT_ONCE:
            self._count(key)

    def _count(self, key: tuple[str, ...]) -> None:
        observed, values = self._observed[key], []
        with suppress(IndexError):  # another thread may count, too
            while True:
                values.append(observed.popleft())
        if values:
            self.observe_all(key[0], np.array(values), *key[1:])

    def observe_all(self, name: str, values: NDArray[np.float64], *labels: str) -> None:
        """Put many values into a histogram at once."""
        child = self._child(name, *labels)
        counts = np.bincount(np.searchsorted(child._upper_bounds, values), minlength=len(child._buckets))
        for bucket, count in zip(child._buckets, counts.tolist(), strict=True):
            bucket.inc(count)
        child._sum.inc(float(values.sum()))

    def forget(self, name: str, *labels: str) -> None:
        """Drop a labelled gauge, e.g. of a partition that moved away."""
        if self._children.pop((name, *labels), None) is not None:
            self._metrics[name].remove(self._pipeline, *labels)

    def model(self, reference: str, engine: str, better: Sequence[str] = ()) -> None:
        """Name the model and the engine that serve, and better engines that do not."""
        name, _, version = reference.partition("/")
        named: dict[str, set[tuple[str, ...]]] = {
            "headrace_model_info": {(name, version, engine)},
            "headrace_engine_passed_info": {(each,) for each in better},
        }
        for metric, labels in named.items():
            for gone in self._named.get(metric, set()) - labels:
                self.forget(metric, *gone)
            self._named[metric] = labels
            for each in labels:
                self.set(metric, 1, *each)

    def delivered(self, batch: RecordBatch, now: float, queued: int) -> None:
        """A record batch has come from Kafka; stage `fetch` is the age of its newest record."""
        if batch.timestamps_ms[-1] >= 0:
            self.observe("headrace_stage_seconds", max(0.0, now - batch.timestamps_ms[-1] / 1000), "fetch")
        self.set("headrace_queue_records", queued)

    def taken(self, now: float, delivered_at: Sequence[float], queued: int) -> None:
        """A micro-batch leaves the queue; all times monotonic."""
        self.observe("headrace_stage_seconds", now - min(delivered_at), "queue")
        self.set("headrace_queue_records", queued)

    def processed(self, processed: Processed) -> None:
        """A micro-batch was computed."""
        self.observe("headrace_batch_records", processed.records)
        for stage, seconds in processed.stage_seconds.items():
            self.observe("headrace_stage_seconds", seconds, stage)

    def acknowledged(self, batch: RecordBatch, outputs: int, poison: Mapping[tuple[str, str], int], now: float) -> None:
        """The broker has every write of this batch; `now` in seconds since the epoch."""
        self.add("headrace_records_in_total", len(batch) + batch.shed.total())
        self.add("headrace_records_out_total", outputs)
        if batch.shed:
            self._dropped(batch.shed)
        for (stage, kind), count in poison.items():
            self.add("headrace_records_dead_lettered_total", count, stage, kind)
        if not len(batch):
            return
        if batch.timestamps_ms[0] >= 0:  # below: a record without a timestamp
            self.observe("headrace_end_to_end_seconds", max(0.0, now - batch.timestamps_ms[0] / 1000))
        if batch.timestamps_ms[-1] >= 0:
            self._done_until_ms[batch.partition] = batch.timestamps_ms[-1]

    def _dropped(self, shed: Mapping[bytes | None, int]) -> None:
        for key, count in shed.items():
            name = shown_key(key or b"")
            if name not in self._dropping and len(self._dropping) == MOST_KEYS:
                name = OTHER
            self._dropping.add(name)
            self.add("headrace_records_dropped_total", count, name)

    def lag(self, records: Mapping[int, int], now: float) -> None:
        """Records behind the log end, of every assigned partition that knows it; others are no longer ours.

        Lag in seconds is the age of the last record done with that has a timestamp: what a subscriber misses is at
        most that old.
        """
        for partition in self._lagging - records.keys():
            self.forget("headrace_lag_records", str(partition))
            self.forget("headrace_lag_seconds", str(partition))
            self._done_until_ms.pop(partition, None)
        self._lagging = set(records)
        for partition, behind in records.items():
            done_ms = self._done_until_ms.get(partition)
            age = 0.0 if not behind or done_ms is None else max(0.0, now - done_ms / 1000)
            self.set("headrace_lag_records", behind, str(partition))
            self.set("headrace_lag_seconds", age, str(partition))

    def expose(self) -> bytes:
        """The page that Prometheus scrapes."""
        for key in list(self._observed):
            self._count(key)
        return generate_latest(self._registry)
