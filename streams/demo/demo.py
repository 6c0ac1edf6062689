"""One run of the demo: its broker, its topics, and its halves."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from msgspec.structs import replace

from connectors.broker import Broker, BrokerSettings
from connectors.kafka_port import free_port
from streams import topics
from streams.demo import site
from streams.demo.fraud import FraudDemo
from streams.demo.home import HOME, JARS, PARTITIONS, configure
from streams.demo.processes import group
from streams.demo.vision import VisionDemo
from streams.errors import HeadraceError
from streams.pipelines import PIPELINES
from streams.settings import Settings, Worker


class Demo:
    """Everything that it starts ends with it.

    Args:
        halves: `fraud`, `vision` or both.
        rate: transactions a second.
        tell: called with one sentence a step while it starts and ends.
    """

    def __init__(self, halves: Collection[str], rate: float, tell: Callable[[str], None]) -> None:
        started = time.perf_counter()
        self.fraud = FraudDemo(rate, started, tell) if "fraud" in halves else None
        self.vision = VisionDemo(started, tell) if "vision" in halves else None
        self.halves = [half for half in (self.fraud, self.vision) if half is not None]
        self._tell = tell

    @property
    def shows(self) -> bool:
        """Whether each half has had its first prediction."""
        return all(half.figures.first_s is not None for half in self.halves)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, produce and measure until `stop`, end everything in order.

        Raises:
            HeadraceError, ConnectorError: something did not start, or a worker ended by itself.
        """
        async with self._broker() as bootstrap_servers:
            settings = configure({"kafka": {"bootstrap_servers": bootstrap_servers}, "vision": site.table()})
            await self._create_topics(settings)
            running = [asyncio.create_task(half.run(settings, stop)) for half in self.halves]
            try:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                stop.set()  # where one has failed, the other ends in order
                await asyncio.gather(*running, return_exceptions=True)
            for task in (*done, *running):  # what failed first is what there is to say
                task.result()

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[str]:
        broker = Broker(BrokerSettings(home=HOME, port=free_port(), jars=JARS, owned=True))
        status = broker.status()
        if status.running:
            raise HeadraceError(
                f"another demo runs in this folder (its broker is pid {status.pid}); end it, or start this one in "
                "another folder"
            )
        shutil.rmtree(HOME / "data", ignore_errors=True)  # every demo starts with empty topics
        try:
            await asyncio.to_thread(broker.start, progress=self._tell)
            yield broker.bootstrap_servers
        finally:
            self._tell("stopping the broker")
            await asyncio.to_thread(broker.stop)

    async def _create_topics(self, settings: Settings) -> None:
        async with topics.Admin(settings.kafka) as admin:
            for half in self.halves:
                grouped = replace(settings, worker=Worker(group=group(half.pipeline)))
                for topic in PIPELINES[half.pipeline].topics(grouped):
                    await admin.create(topic, PARTITIONS)
