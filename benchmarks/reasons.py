"""Reasons: what explaining a flagged transaction costs, and what it leaves of the throughput."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from benchmarks.batches import record_batches
from streams import settings
from streams.pipelines.fraud.pipeline import FraudPipeline
from streams.records import RecordBatch

SHARE = 0.01
WARM_UP = 0.2  # of the batches: windows fill, and kernels load
NEVER = float("inf")


@dataclass(frozen=True)
class Outcome:
    """Transactions a second, in memory and on one core, and what a flag adds.

    Args:
        plain: with nothing flagged.
        explained: with the share flagged.
    """

    plain: float
    explained: float
    share: float

    @property
    def us_per_flag(self) -> float:
        """Microseconds that a flagged transaction takes more."""
        return (1 / self.explained - 1 / self.plain) / self.share * 1e6

    def answer(self) -> dict[str, float]:
        """The machine-readable answer."""
        return {
            "plain_eps": round(self.plain),
            "explained_eps": round(self.explained),
            "flagged_share": round(self.share, 5),
            "us_per_flag": round(self.us_per_flag, 1),
            "ratio": round(self.explained / self.plain, 3),
        }


def run(count: int, rounds: int, said: Callable[[str], None]) -> Outcome:
    """Run the fraud pipeline over simulated transactions, in turn with nothing and with 1 % flagged; medians."""
    batches = record_batches(count, settings.Batch().max_batch_size)
    said(f"scoring {count:,} simulated transactions")
    scores = _scores(batches)
    threshold = float(np.quantile(scores, 1 - SHARE))
    found: dict[float, list[float]] = {NEVER: [], threshold: []}
    for turn in range(rounds):
        for review, rates in found.items():
            rates.append(_rate(batches, review))
            said(f"round {turn + 1} of {rounds}, {'nothing' if review == NEVER else '1 %'} flagged: {rates[-1]:,.0f}/s")
    return Outcome(
        statistics.median(found[NEVER]), statistics.median(found[threshold]), float((scores >= threshold).mean())
    )


def _scores(batches: list[RecordBatch]) -> np.ndarray:
    pipeline = _pipeline(NEVER)
    store, found = pipeline.new_store(), []
    for batch in batches:
        columns = pipeline.decode(batch).columns
        pipeline.table.append(batch.partition, columns)
        found.append(pipeline.served.infer(pipeline.features(columns, store)))
        store.changes()
    pipeline.close()
    return np.concatenate(found[int(WARM_UP * len(found)) :])


def _rate(batches: list[RecordBatch], review: float) -> float:
    pipeline = _pipeline(review)
    model, store, warm = pipeline.served, pipeline.new_store(), int(WARM_UP * len(batches))
    started, events = 0.0, 0
    for number, batch in enumerate(batches):
        if number == warm:
            started, events = time.perf_counter(), 0
        columns = pipeline.decode(batch).columns
        pipeline.table.append(batch.partition, columns)
        features = pipeline.features(columns, store)
        events += len(model.encode(columns, features, model.infer(features)))
        store.changes()
    pipeline.close()
    return events / (time.perf_counter() - started)


def _pipeline(review: float) -> FraudPipeline:
    pipeline = FraudPipeline(settings.Fraud(review_threshold=review, block_threshold=NEVER))
    pipeline.warm_up()
    return pipeline


def table(found: Outcome) -> Table:
    """Draw the result for a terminal of 80 columns."""
    drawn = Table(title="Reasons, one process without Kafka", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("nothing flagged", f"{found.share:.1%} flagged", "ratio", "µs per flag"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_row(
        f"{found.plain:,.0f}/s",
        f"{found.explained:,.0f}/s",
        f"{found.explained / found.plain:.2f}",
        f"{found.us_per_flag:.0f}",
    )
    return drawn
