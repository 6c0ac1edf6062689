"""A worker process of the counting pipeline that a test can slow down, hold and break; its argument is JSON:

input, output     topics
delays_s, seed    every write waits for up to so long, at random, *before* it is produced; later ones overtake it
hold              the number (from 0) of the write that is never produced
slow_s            how long the model takes for a record whose value is `slow`
restore_s         how much longer a restore takes
clock_ahead_s     how far the machine's clock is ahead
broken            the model fails for every record
breaks            likewise, from the first batch on that finds this file
without           a safeguard of tests/chaos/safeguards.py that is switched off: the mistake, for comparison
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelError
from streams import settings
from streams.cli.logs import configure_logging
from streams.clock import SystemClock
from streams.emitter import Letters, Sender, Sent, Write
from streams.errors import HeadraceError
from streams.pipeline import Decoded
from streams.process import run
from streams.records import RecordBatch
from streams.runner import Runner
from streams.state import KeyedState, RestoreReport
from streams.worker import Worker
from tests.chaos.safeguards import switch_off
from tests.counting import CountingPipeline, CountStore, Events

logger = logging.getLogger(__name__)


class ScriptedPipeline(CountingPipeline):
    """Counts, slowly where a record says so."""

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__(script["input"], script["output"])
        self.model_broken = script.get("broken", False)
        self._slow_s = script.get("slow_s", 0.0)
        self._slow = False
        self._breaks = script.get("breaks")

    def decode(self, batch: RecordBatch) -> Decoded[Events]:
        # Here, and not where the model is asked: it must fail for all records of a micro-batch, or for none.
        if self._breaks is not None and Path(self._breaks).exists():
            self.model_broken = True
        return super().decode(batch)

    def features(self, columns: Events, store: CountStore) -> NDArray[np.float32]:
        self._slow |= b"slow" in columns.values
        return super().features(columns, store)

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._slow:
            logger.info("the model begins its slow call")
            time.sleep(self._slow_s)
            logger.info("the model has ended its slow call")
            self._slow = False  # once for a micro-batch, however often it is asked to find a bad record
        return super().infer(features)


class DelayingEmitter:
    """Stands before the emitter: a write is handed on later, or never, while those behind it go on.

    With exactly once those of the same partition do not overtake it: a transaction takes its letters in order.
    """

    def __init__(self, emitter: Sender, script: dict[str, Any]) -> None:
        self._emitter = emitter
        self._random = random.Random(script.get("seed", 0))
        self._longest_s = script.get("delays_s", 0.0)
        self._hold = script.get("hold")
        self._numbers = itertools.count()
        self._last: dict[int, asyncio.Task[Sent | None]] = {}
        self.alone = emitter.alone
        self.flush = emitter.flush
        self.revoked = emitter.revoked

    async def send(self, letters: Letters, alive: Callable[[], bool]) -> Sent | None:
        delay_s = self._random.uniform(0, self._longest_s)
        if next(self._numbers) == self._hold:
            logger.info("holding a write")
            delay_s = float("inf")
        if not delay_s:
            return await self._emitter.send(letters, alive)
        before = self._last.get(letters.partition) if self.alone else None
        late = asyncio.create_task(self._send_later(letters, alive, delay_s, before))
        self._last[letters.partition] = late
        return Later(late)

    async def _send_later(
        self, letters: Letters, alive: Callable[[], bool], delay_s: float, before: asyncio.Task[Sent | None] | None
    ) -> Sent | None:
        if delay_s == float("inf"):
            await asyncio.Event().wait()
        if before is not None:
            await before
        await asyncio.sleep(delay_s)
        return await self._emitter.send(letters, alive if self.alone else lambda: True)


class Later:
    """What becomes of a write that is not produced yet."""

    def __init__(self, late: asyncio.Task[Sent | None]) -> None:
        self._late = late

    async def written(self) -> Sequence[Write] | None:
        sent = await self._late
        return None if sent is None else await sent.written()

    async def committed(self) -> bool:
        sent = await self._late
        return sent is not None and await sent.committed()


class DelayingRunner(Runner):
    """The product's runner behind a `DelayingEmitter`."""

    script: dict[str, Any]

    async def run(self, consumer: Any, emitter: Any) -> None:
        await super().run(consumer, DelayingEmitter(emitter, self.script))  # type: ignore[arg-type]


def restore_slowly(state: KeyedState, seconds: float) -> None:
    """Make a restore take longer."""
    restore = state.restore

    async def slowly(partitions: Sequence[int], kafka: settings.Kafka, timeout_s: float) -> RestoreReport:
        await asyncio.sleep(seconds)
        return await restore(partitions, kafka, timeout_s)

    state.restore = slowly  # type: ignore[method-assign]


class ClockAhead(SystemClock):
    """Somebody has set the machine's clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return super().time() + self._seconds


async def main(script: dict[str, Any]) -> None:
    worker = Worker(settings.load(), ScriptedPipeline(script), ClockAhead(script.get("clock_ahead_s", 0.0)))
    worker.runner.__class__ = DelayingRunner
    worker.runner.script = script  # type: ignore[attr-defined]
    if worker.state is not None and "restore_s" in script:
        restore_slowly(worker.state, script["restore_s"])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


if __name__ == "__main__":
    configure_logging("info")
    script = json.loads(sys.argv[1])
    if "without" in script:
        switch_off(script["without"])
    try:
        run(lambda: main(script))
    except (HeadraceError, ModelError) as error:
        sys.exit(f"error: {error}")
