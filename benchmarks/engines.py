"""What the way through the batcher costs, beside calling the engine in a bare loop; in memory, with the fraud model."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from benchmarks.bars import Bar
from models import repository
from models.engine import Engine
from models.fraud.inputs import INPUTS
from models.repository import Repository
from streams.batcher import Batcher
from streams.compute import ComputeThreads
from streams.settings import Batch

Rows = NDArray[np.float32]

ARRIVING = 64  # records in what arrives at once, at saturation
SINGLES = 2_000
# At twice what one by one can serve, a batch fills within its delay; a work-conserving batcher would serve the same
# load in small batches, too.
FILLING = Batch(max_batch_size=64, max_queue_delay_s=0.005, max_queue_size=1024)
SMALL = Batch(max_batch_size=1, max_queue_size=1024)

LEAST_OF_BARE = 0.9
MOST_ADDED_MS = 1.0
LEAST_FILLED = 0.8


@dataclass(frozen=True)
class Outcome:
    """Medians over rounds.

    Attributes:
        bare_eps: events/s of `infer` in a loop, a full micro-batch a call.
        batcher_eps, batcher_mean: events/s through batcher and compute thread at saturation, and the mean micro-batch.
        single_bare_ms, single_ms: p99 of one event by itself, in a loop, and through the batcher with delay 0.
        one_by_one_eps: through the batcher, when a micro-batch may hold one event.
        filled: mean micro-batch at twice that rate, by the largest.
    """

    bare_eps: float
    batcher_eps: float
    batcher_mean: float
    single_bare_ms: float
    single_ms: float
    one_by_one_eps: float
    filled: float

    def answer(self) -> dict[str, dict[str, float]]:
        """Return the machine-readable answer."""
        return {
            "bare": {"eps": round(self.bare_eps, 1), "p99_ms": round(self.single_bare_ms, 4)},
            "batcher": {
                "eps": round(self.batcher_eps, 1),
                "mean_batch": round(self.batcher_mean, 1),
                "p99_ms": round(self.single_ms, 4),
                "one_by_one_eps": round(self.one_by_one_eps, 1),
                "filled_at_twice_that": round(self.filled, 3),
            },
        }

    def bars(self) -> list[Bar]:
        """Return what the batcher may cost, beside what it does."""
        added = self.single_ms - self.single_bare_ms
        return [
            Bar("events/s through the batcher / bare", self.batcher_eps / self.bare_eps, LEAST_OF_BARE, "", True, 2),
            Bar("p99 added to a single event", added, MOST_ADDED_MS, " ms", digits=3),
            Bar("mean batch / largest, at twice one-by-one", self.filled, LEAST_FILLED, "", True, 2),
        ]


def table(outcome: Outcome) -> Table:
    """Draw the results for a terminal."""
    drawn = Table(title="The fraud model, in memory", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "events/s", "mean batch", "single event, p99"):
        drawn.add_column(heading, justify="right" if heading else "left")
    drawn.add_row("bare loop", f"{outcome.bare_eps:,.0f}", "full", f"{outcome.single_bare_ms:.3f} ms")
    drawn.add_row(
        "batcher", f"{outcome.batcher_eps:,.0f}", f"{outcome.batcher_mean:,.0f}", f"{outcome.single_ms:.3f} ms"
    )
    drawn.add_row("one by one", f"{outcome.one_by_one_eps:,.0f}", "1", "")
    return drawn


def run(events: int, rounds: int, said: Callable[[str], None]) -> Outcome:
    """Measure each in turn, in every round."""
    model = Repository().load("fraud")
    engine = repository.open_engine(model)
    rows = np.resize(model.golden().inputs["features"], (events, len(INPUTS))).astype(np.float32)
    rounds_found = []
    for number in range(rounds):
        bare = _bare(engine, rows)
        eps, mean = asyncio.run(_saturated(engine, rows, Batch()))
        single_bare = _p99_ms(_singles(engine, rows))
        single = _p99_ms(asyncio.run(_alone(engine, rows)))
        one_by_one, _ = asyncio.run(_saturated(engine, rows[:SINGLES], SMALL, arriving=1))
        filled = asyncio.run(_open_loop(engine, rows, 2 * one_by_one)) / FILLING.max_batch_size
        rounds_found.append((bare, eps, mean, single_bare, single, one_by_one, filled))
        said(f"round {number + 1} of {rounds}: bare {bare:,.0f}/s, batcher {eps:,.0f}/s, mean batch {mean:,.0f}")
    engine.close()
    return Outcome(*(statistics.median(column) for column in zip(*rounds_found, strict=True)))


def _infer(engine: Engine, rows: Rows) -> Rows:
    return engine.infer({"features": rows})["score"]


def _bare(engine: Engine, rows: Rows) -> float:
    size, started = Batch().max_batch_size, time.perf_counter()
    for start in range(0, len(rows), size):
        _infer(engine, rows[start : start + size])
    return len(rows) / (time.perf_counter() - started)


def _singles(engine: Engine, rows: Rows) -> list[float]:
    found = []
    for row in range(SINGLES):
        started = time.perf_counter()
        _infer(engine, rows[row : row + 1])
        found.append(time.perf_counter() - started)
    return found


def _p99_ms(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.99)) * 1000


class _Served:
    """A batcher whose micro-batches are computed in a compute thread, as in a worker."""

    def __init__(self, engine: Engine, settings: Batch) -> None:
        self.batcher: Batcher[Rows] = Batcher(settings)
        self.sizes: list[int] = []
        self.done = 0
        self.changed = asyncio.Event()
        self._engine, self._compute = engine, ComputeThreads("bench-compute")

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            items = await self.batcher.take()
            await loop.run_in_executor(self._compute, self._together, items)
            self.sizes.append(sum(map(len, items)))
            self.done += self.sizes[-1]
            self.changed.set()

    def _together(self, items: list[Rows]) -> Rows:
        return _infer(self._engine, items[0] if len(items) == 1 else np.concatenate(items))

    async def until(self, count: int) -> None:
        while self.done < count:
            self.changed.clear()
            await self.changed.wait()

    def close(self) -> None:
        self._compute.shutdown()


async def _saturated(engine: Engine, rows: Rows, settings: Batch, arriving: int = ARRIVING) -> tuple[float, float]:
    """Events/s and the mean micro-batch, where there is always something to do."""
    served = _Served(engine, settings)
    serving = asyncio.create_task(served.run())
    started = time.perf_counter()
    for start in range(0, len(rows), arriving):
        await served.batcher.put(rows[start : start + arriving])
    await served.until(len(rows))
    seconds = time.perf_counter() - started
    serving.cancel()
    served.close()
    return len(rows) / seconds, statistics.fmean(served.sizes)


async def _alone(engine: Engine, rows: Rows) -> list[float]:
    """Seconds from the arrival of an event at an idle batcher to its prediction."""
    served = _Served(engine, Batch(max_queue_delay_s=0.0))
    serving = asyncio.create_task(served.run())
    found = []
    for row in range(SINGLES):
        started = time.perf_counter()
        await served.batcher.put(rows[row : row + 1])
        await served.until(row + 1)
        found.append(time.perf_counter() - started)
    serving.cancel()
    served.close()
    return found


async def _open_loop(engine: Engine, rows: Rows, rate: float) -> float:
    """The mean micro-batch where events arrive at a rate, one by one."""
    served = _Served(engine, FILLING)
    serving = asyncio.create_task(served.run())
    started, sent = time.perf_counter(), 0
    while sent < len(rows):
        due = min(len(rows), int((time.perf_counter() - started) * rate))
        for row in range(sent, due):
            await served.batcher.put(rows[row : row + 1])
        sent = due
        await asyncio.sleep(0)
    await served.until(len(rows))
    serving.cancel()
    served.close()
    return statistics.fmean(served.sizes)
