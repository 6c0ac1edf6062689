"""Reasons: what explaining a flagged transaction costs, and what it leaves of the throughput."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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

    @property
    def ratio(self) -> float:
        """What is left of the throughput."""
        return self.explained / self.plain

    def answer(self) -> dict[str, float]:
        """The machine-readable answer."""
        return {
            "plain_eps": round(self.plain),
            "explained_eps": round(self.explained),
            "flagged_share": round(self.share, 5),
            "us_per_flag": round(self.us_per_flag, 1),
            "ratio": round(self.ratio, 3),
        }


def run(count: int, rounds: int, said: Callable[[str], None]) -> Outcome:
    """Run the fraud pipeline over simulated transactions with nothing and with 1 % flagged, in turn for each batch of
    them, so that both see the same of what else the machine does; medians over rounds.
    """
    batches = record_batches(count, settings.Batch().max_batch_size)
    said(f"scoring {count:,} simulated transactions")
    scores = _scores(batches)
    threshold = float(np.quantile(scores, 1 - SHARE))
    outcomes = []
    for turn in range(rounds):
        plain, explained = (_rate(seconds) for seconds in _seconds(batches, (NEVER, threshold)))
        outcomes.append(Outcome(plain, explained, float((scores >= threshold).mean())))
        said(f"round {turn + 1} of {rounds}, nothing and 1 % flagged: {plain:,.0f}/s and {explained:,.0f}/s")
    return sorted(outcomes, key=lambda outcome: outcome.ratio)[rounds // 2]


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


def _seconds(batches: list[RecordBatch], reviews: Sequence[float]) -> list[list[tuple[float, int]]]:
    """Seconds and events of each batch but the first ones, by a pipeline for each of these thresholds."""
    pipelines = [_pipeline(review) for review in reviews]
    stores = [pipeline.new_store() for pipeline in pipelines]
    found: list[list[tuple[float, int]]] = [[] for _ in reviews]
    for number, batch in enumerate(batches):
        turns = list(zip(pipelines, stores, found, strict=True))
        for pipeline, store, taken in turns if number % 2 else reversed(turns):
            started = time.perf_counter()
            columns = pipeline.decode(batch).columns
            pipeline.table.append(batch.partition, columns)
            features = pipeline.features(columns, store)
            events = len(pipeline.served.encode(columns, features, pipeline.served.infer(features)))
            store.changes()
            taken.append((time.perf_counter() - started, events))
    for pipeline in pipelines:
        pipeline.close()
    warm = int(WARM_UP * len(batches))
    return [taken[warm:] for taken in found]


def _rate(taken: list[tuple[float, int]]) -> float:
    seconds, events = zip(*taken, strict=True)
    return sum(events) / sum(seconds)


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
        f"{found.ratio:.2f}",
        f"{found.us_per_flag:.0f}",
    )
    return drawn
