"""What the label loop should say of labels and flags, in plain Python, one record at a time."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests import verify

DAY_MS = 86_400_000
WAIT_MS, DELAY_MS, WINDOW_MS = 7 * DAY_MS, 7 * DAY_MS, 7 * DAY_MS
BINS = 20
Transaction = tuple[str, str]
"""Card and transaction id."""


@dataclass(frozen=True)
class Flag:
    """The first flag of a transaction."""

    event_ms: int
    late: bool
    told: Mapping[str, Any]


@dataclass
class Label:
    """The label of a transaction that counts."""

    partition: int
    event_ms: int
    best: tuple[int, bool]  # label time and fraud: the largest counts
    said: set[bool] = field(default_factory=set)


class Truth:
    """Computed from all flags and all good labels of a cluster; for less than the 45 days that they are held."""

    def __init__(self, labels: Iterable[verify.Record], flags: Iterable[verify.Record]) -> None:
        self.flags: dict[Transaction, Flag] = {}
        self.newest: dict[int, int] = {}
        for record in flags:
            told = json.loads(record.value or b"")
            event_ms = round(datetime.fromisoformat(told["event_time"]).timestamp() * 1000)
            newest = self.newest.get(record.partition, event_ms)
            self.flags.setdefault(_transaction(told), Flag(event_ms, event_ms < newest - WAIT_MS, told))
            self.newest[record.partition] = max(newest, event_ms)
        self.labels: dict[Transaction, Label] = {}
        for record in labels:
            told = json.loads(record.value or b"")
            best = told["label_time"], told["fraud"]
            label = self.labels.setdefault(_transaction(told), Label(record.partition, told["event_time"], best))
            label.best = max(label.best, best)
            label.said.add(told["fraud"])

    def gauges(self) -> dict[str, float]:
        """Metric -> value."""
        counts: dict[str, float] = dict.fromkeys(("matched", "waiting", "unknown", "superseded", "expired"), 0)
        for transaction, label in self.labels.items():
            flag = self.flags.get(transaction)
            counts["superseded"] += len(label.said) == 2
            if flag is not None and not flag.late:
                counts["matched"] += 1
            elif label.event_ms < self.newest[label.partition] - WAIT_MS:
                counts["unknown"] += 1
            else:
                counts["waiting"] += 1
        found = {f"headrace_labels_{name}": count for name, count in counts.items()}
        return found | {f"headrace_fraud_{name}": figure for name, figure in self._figures().items()}

    def _figures(self) -> dict[str, float]:
        until = max(self.newest.values()) - DELAY_MS
        due = [name for name, flag in self.flags.items() if until - WINDOW_MS < flag.event_ms <= until]
        scores = [self.flags[name].told["score"] for name in due]
        flagged = [self.flags[name].told["flagged"] for name in due]
        fraud = [name in self.labels and self.labels[name].best[1] for name in due]
        caught = sum(one and other for one, other in zip(flagged, fraud, strict=True))
        return {
            "precision": caught / sum(flagged),
            "recall": caught / sum(fraud) if any(fraud) else math.nan,
            "average_precision": _average_precision(scores, fraud),
            "calibration_error": _calibration_error(scores, fraud),
            "due_transactions": len(due),
        }


def _transaction(told: Mapping[str, Any]) -> Transaction:
    return told["card_id"], told["transaction_id"]


def _average_precision(scores: Sequence[float], fraud: Sequence[bool]) -> float:
    if not any(fraud):
        return math.nan
    found, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        above = [truth for score, truth in zip(scores, fraud, strict=True) if score >= threshold]
        found += (sum(above) / sum(fraud) - recall) * sum(above) / len(above)
        recall = sum(above) / sum(fraud)
    return found


def _calibration_error(scores: Sequence[float], fraud: Sequence[bool]) -> float:
    """The bin of a score is that of the middle of the ranks of all scores that are equal to it."""
    ordered, excess = sorted(scores), defaultdict[int, float](float)
    for score, truth in zip(scores, fraud, strict=True):
        middle = (bisect_left(ordered, score) + bisect_right(ordered, score)) / 2
        excess[int(BINS * middle / len(scores))] += score - truth
    return sum(map(abs, excess.values())) / len(scores)
