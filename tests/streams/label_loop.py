"""The label loop without a broker, and flags and labels for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.clock import ManualClock
from streams.pipelines.labels.pipeline import LabelsPipeline
from streams.processor import Processor
from streams.records import Outgoing, RecordBatch
from streams.settings import Fraud, Labels
from streams.state import KeyedState
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
DAY_MS = 86_400_000
IN, OUT, FLAGS = "fraud.labels", "fraud.outcomes", "fraud.flags"
SEEN_MS = NOW_MS - 8 * DAY_MS
GOOD = {"transaction_id": "t1", "card_id": "c1", "terminal_id": "m1", "fraud": True,
        "event_time": SEEN_MS, "label_time": SEEN_MS + 7 * DAY_MS}  # fmt: skip


def rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def value(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


def flag(transaction: str, event_time: int = SEEN_MS, score: float = 0.25, **fields: object) -> bytes:
    made = {"transaction_id": transaction, "card_id": "c1", "event_time": rfc3339(event_time), "score": score,
            "flagged": score > 0.5, "decision": "review" if score > 0.5 else "approve", "model": "fraud/2",
            "reasons": []}  # fmt: skip
    return json.dumps(made | fields).encode()


class Loop:
    """The pipeline with its state, without a broker."""

    def __init__(self, settings: Labels | None = None, now_s: float = NOW_S) -> None:
        self.clock = ManualClock(now_s)
        self.pipeline = LabelsPipeline(settings or Labels(), Fraud(), self.clock)
        self.state = KeyedState("labels.changelog", self.pipeline.new_store)
        self._processor = Processor(self.pipeline, self.state, clock=self.clock)
        self._next: dict[tuple[str, int], int] = {}

    def _batch(self, topic: str, values: Sequence[bytes | None], partition: int, keys: Any) -> RecordBatch:
        start = self._next.get((topic, partition), 0)
        self._next[topic, partition] = start + len(values)
        return batch(values, keys=keys or [b"c1"] * len(values), start=start, partition=partition, topic=topic)

    def score(self, *flags: bytes | None, partition: int = 0) -> None:
        self.pipeline.table.apply(self._batch(FLAGS, flags, partition, None))

    def label(self, *labels: bytes | None, partition: int = 0, keys: Any = None) -> list[Outgoing]:
        (outbox,) = self._processor.process([self._batch(IN, labels, partition, keys)]).outboxes
        return outbox.outgoing

    def gauges(self) -> dict[str, float]:
        """As they will be once they have been computed anew; without the common part of the names."""
        self.pipeline._metrics.refresh()
        found = self.pipeline.gauges()
        return {name.removeprefix("headrace_"): value for name, value in found.items()}

    def counts(self) -> dict[str, float]:
        return {
            name.removeprefix("labels_"): value
            for name, value in self.gauges().items()
            if name.startswith("labels_") and "age" not in name and value
        }


def outcomes(outgoing: Iterable[Outgoing]) -> list[dict[str, Any]]:
    return [json.loads(each or b"") for one in outgoing if one.topic == OUT for each in one.values]


def dead(outgoing: Iterable[Outgoing]) -> list[tuple[bytes | None, str, str]]:
    """Value, kind and message of each dead letter."""
    found = []
    for one in outgoing:
        if one.topic == IN + ".dead-letter":
            for row, each in enumerate(one.values):
                headers = dict(one.headers_of(row))
                found.append((each, *(str(headers[f"error.{name}"], "utf-8") for name in ("type", "message"))))  # type: ignore[arg-type]
    return found
