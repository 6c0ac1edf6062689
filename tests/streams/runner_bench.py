"""A runner between an assignment and a log, for tests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from streams.compute import ComputeThreads
from streams.deadletter import DeadLetterGuard
from streams.emitter import Emitter
from streams.pipeline import Freshness
from streams.processor import Processor
from streams.runner import Runner
from streams.settings import Settings, Worker
from streams.state import KeyedState
from streams.telemetry import Telemetry
from tests.counting import CountingPipeline, CountStore
from tests.streams.inmemory import TOPIC, Assignment, Log, Message, batch

OUT, CHANGELOG = "counts", "counts.changelog"
LONG_S = 10.0


class Gated(CountingPipeline):
    """A counting pipeline whose model can be held up; `begun` counts the record batches that have come to it."""

    def __init__(self) -> None:
        super().__init__(TOPIC, OUT)
        self.freshness: Freshness | None = None
        self.inferring, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.begun = 0

    def features(self, columns: Any, store: CountStore) -> Any:
        self.begun += 1
        return super().features(columns, store)

    def infer(self, features: Any) -> Any:
        self.inferring.set()
        self.go.wait(LONG_S)
        return super().infer(features)


class Bench:
    """A runner between an assignment and a log."""

    def __init__(
        self,
        *,
        acknowledge: bool = True,
        freshness: Freshness | None = None,
        pipeline: Any = None,
        **sections: Any,
    ) -> None:
        self.settings = Settings(**({"worker": Worker(drain_timeout_s=0.2)} | sections))
        self.pipeline = pipeline or Gated()
        self.pipeline.freshness = freshness
        self.state = KeyedState(CHANGELOG, CountStore)
        self.telemetry = Telemetry("counting")
        self.compute = ThreadPoolExecutor(1)
        processor = Processor(self.pipeline, self.state, DeadLetterGuard(self.settings.dead_letter))
        self.instances = ComputeThreads("instance", getattr(self.pipeline, "instances", 1))
        self.runner = Runner(processor, self.instances, self.compute, self.settings, self.telemetry)
        self.consumer, self.log = Assignment(), Log(acknowledge=acknowledge)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        emitter = Emitter(self.log, self.settings.worker.broker_timeout_s)
        task = asyncio.create_task(self.runner.run(self.consumer, emitter))
        try:
            yield task
        finally:
            self.pipeline.go.set()
            task.cancel()
            await asyncio.wait({task}, timeout=LONG_S)
            self.compute.shutdown()
            self.instances.shutdown()
            assert task.done(), "the runner goes on after it was cancelled"

    async def deliver(self, values: list[bytes], start: int, partition: int = 0) -> Message:
        message = self.consumer.deliver(batch(values, start=start, partition=partition))
        await asyncio.wait_for(self.runner.offer(message, self.consumer), LONG_S)
        return message

    def offsets(self, partition: int = 0) -> list[int]:
        return [json.loads(each.value or b"")["offset"] for each in self.log.of(OUT, partition)]

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [each.value for each in self.log.of(OUT, partition)]

    def mark(self, partition: int = 0) -> int | None:
        return self.consumer.marks.committable(partition)

    async def revoke(self, *partitions: int) -> None:
        """As the transport does it: drain, then hand over."""
        await self.runner.drain()
        self.consumer.revoke(partitions)
        self.runner.revoked(frozenset(partitions))

    def metric(self, name: str) -> float:
        page = self.telemetry.expose().decode()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith((name + "{", name + " "))
        )


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 30)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.002)
