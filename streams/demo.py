"""What `headrace demo` runs: a broker, a fraud worker, simulated transactions, and a subscriber that measures."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.broker import Broker, BrokerSettings
from connectors.kafka_port import free_port
from connectors.simulators.labels import records as simulated_labels
from connectors.simulators.transactions import DAY_MS, TransactionSettings, blocks
from streams import topics
from streams.clock import SystemClock
from streams.errors import HeadraceError
from streams.fetching import fetch_record_batches
from streams.pipelines import PIPELINES
from streams.producing import EventProducer, Events, Pace, pump
from streams.records import Headers, RecordBatch
from streams.schemas import FraudFlag
from streams.settings import Fraud, Kafka, Settings, Worker

HOME = Path(".headrace/demo")
JARS = Path(".headrace/kafka/jars")
PARTITIONS = 4
# Some 4 000 transactions a simulated day: at 2 000/s the first labels come after a quarter of a minute, and it takes
# hours until the present.
WORLD = TransactionSettings(customers=2_000, terminals=4_000, start=datetime(2015, 1, 1, tzinfo=UTC))
LABEL_DELAY_MS = 7 * DAY_MS
GROUP = "headrace-demo"
WINDOW_S = 10.0
RECENT_FLAGS = 50
CHUNK = 256
POLL_S = 0.1
READY_TIMEOUT_S = 90.0
LAST_PREDICTIONS_TIMEOUT_S = 10.0
WORKER_STOP_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Measurements:
    """What a subscriber sees, with the latency from the producer's hand to its own."""

    sent: int = 0
    received: int = 0
    flagged: int = 0
    first_prediction_s: float | None = None
    flags: deque[FraudFlag] = field(default_factory=lambda: deque(maxlen=RECENT_FLAGS))
    _latencies: array[float] = field(default_factory=lambda: array("d"))
    _recent: deque[tuple[float, float]] = field(default_factory=deque)  # arrival and latency

    def add(self, now: float, latencies_s: Sequence[float]) -> None:
        """Predictions that arrived now."""
        self.received += len(latencies_s)
        self._latencies.extend(latencies_s)
        self._recent.extend((now, latency) for latency in latencies_s)
        while self._recent and self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Predictions a second over the last ten seconds."""
        if not self._recent:
            return 0.0
        return len(self._recent) / max(1.0, min(WINDOW_S, now - self._recent[0][0]))

    def recent_ms(self) -> tuple[float, float]:
        """p50 and p99 of the last ten seconds."""
        return _percentiles([latency for _, latency in self._recent])

    def overall_ms(self) -> tuple[float, float]:
        """p50 and p99 of the whole run."""
        return _percentiles(self._latencies)


def _percentiles(latencies_s: Sequence[float]) -> tuple[float, float]:
    if not latencies_s:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(np.array(latencies_s), [50, 99]) * 1000
    return float(p50), float(p99)


class _TimedProducer(EventProducer):
    """Remembers when each record left: a demo's topics start empty, so the n-th record of a partition has offset n."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        super().__init__(kafka, topic)
        self.sent_at = [array("d") for _ in range(PARTITIONS)]

    async def send(
        self, keys: Sequence[bytes | None], values: Sequence[bytes], headers: Sequence[Headers] | None = None
    ) -> None:
        now = time.perf_counter()
        for key in keys:
            self.sent_at[self._partitioner[key]].append(now)
        await super().send(keys, values, headers)


class _World:
    """Simulated transactions until their own time reaches the present, beyond which they would be absurd, and what
    becomes known of them by then: the frauds among them, a week late.
    """

    def __init__(self) -> None:
        self.labels: deque[tuple[bytes, bytes]] = deque()
        """Keys and values that are due; filled while transactions are taken, from another thread."""

    def transactions(self) -> Iterator[Events]:
        now_ms = SystemClock().time() * 1000
        later: deque[tuple[int, bytes, bytes]] = deque()
        for block in blocks(WORLD):
            if len(block) and block.event_time_ms[-1] > now_ms:
                return
            keys, values = block.records()
            label_keys, label_values, label_times = simulated_labels(block, LABEL_DELAY_MS, genuine=False)
            later.extend(zip(label_times.tolist(), label_keys, label_values, strict=True))
            for start in range(0, len(keys), CHUNK):
                while later and later[0][0] <= block.event_time_ms[start]:
                    self.labels.append(later.popleft()[1:])
                yield keys[start : start + CHUNK], values[start : start + CHUNK]


class Demo:
    """One run of the demo. Everything that it starts ends with it.

    Args:
        rate: transactions a second.
        tell: called with one sentence a step while it starts and ends.
    """

    def __init__(self, rate: float, tell: Callable[[str], None]) -> None:
        self.measurements = Measurements()
        self._log = HOME / "worker.log"
        self._rate = rate
        self._tell = tell
        self._http_port = free_port()
        self._started = time.perf_counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, produce and measure until `stop`, end everything in order.

        Raises:
            HeadraceError, ConnectorError: something did not start, or the worker ended by itself.
        """
        async with AsyncExitStack() as stack:
            kafka = await stack.enter_async_context(self._broker())
            fraud = Fraud()
            await self._create_topics(kafka, fraud)
            worker = await stack.enter_async_context(self._worker(kafka))
            consumer = await stack.enter_async_context(_consumer(kafka, fraud.output))
            producer = _TimedProducer(kafka, fraud.input)
            await stack.enter_async_context(producer)
            labels = await stack.enter_async_context(EventProducer(kafka, fraud.labels))
            await self._until_ready(worker, stop)
            if not stop.is_set():
                await self._flow(producer, labels, consumer, worker, stop)

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Kafka]:
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
            yield Kafka(bootstrap_servers=broker.bootstrap_servers)
        finally:
            self._tell("stopping the broker")
            await asyncio.to_thread(broker.stop)

    async def _create_topics(self, kafka: Kafka, fraud: Fraud) -> None:
        async with topics.Admin(kafka) as admin:
            settings = Settings(worker=Worker(group=GROUP), fraud=fraud)
            for topic in PIPELINES["fraud"].topics(settings):
                await admin.create(topic, PARTITIONS)

    @asynccontextmanager
    async def _worker(self, kafka: Kafka) -> AsyncIterator[asyncio.subprocess.Process]:
        self._tell("starting a fraud worker")
        # The user's own settings must not reach it: it belongs to the demo's broker.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environment["HEADRACE_KAFKA__BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
        environment["HEADRACE_CONFIG"] = os.devnull
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "streams.cli", "worker", "fraud"),
                *("--group", GROUP, "--http-port", str(self._http_port)),
                env=environment,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal must reach the demo, which ends the worker in order.
                start_new_session=True,
            )
        try:
            yield process
        finally:
            self._tell("stopping the worker")
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), WORKER_STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _until_ready(self, worker: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        """Until the worker has its partitions: events sent earlier would measure its start, not its latency."""
        url = f"http://127.0.0.1:{self._http_port}/health/ready"
        deadline = time.perf_counter() + READY_TIMEOUT_S
        async with aiohttp.ClientSession() as session:
            while not stop.is_set():
                if worker.returncode is not None:
                    raise self._worker_ended(worker)
                if time.perf_counter() > deadline:
                    raise HeadraceError(f"the worker is not ready after {READY_TIMEOUT_S:.0f} s; its log: {self._log}")
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as response:
                        body = await response.json()
                    if body["ready"]:
                        return
                    self._tell(f"worker: {body['phase']}, {body['reason']}")
                await asyncio.sleep(POLL_S)

    async def _flow(
        self,
        producer: _TimedProducer,
        labels: EventProducer,
        consumer: AIOKafkaConsumer,
        worker: asyncio.subprocess.Process,
        stop: asyncio.Event,
    ) -> None:
        receiving = asyncio.create_task(self._receive(consumer, producer))
        ended = asyncio.create_task(worker.wait())
        world = _World()
        pumping = pump(producer, world.transactions(), Pace(rate=self._rate), stop, self._on_sent)
        sending, labelling = asyncio.create_task(pumping), asyncio.create_task(_label(world, labels))
        tasks: set[asyncio.Task[Any]] = {receiving, ended, sending, labelling}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended in done:
                raise self._worker_ended(worker)
            for task in done:
                task.result()
            await self._until_all_received()
        finally:
            for task in tasks:
                task.cancel()

    def _on_sent(self, sent: int) -> None:
        self.measurements.sent = sent

    async def _receive(self, consumer: AIOKafkaConsumer, producer: _TimedProducer) -> None:
        decode = msgspec.json.Decoder(FraudFlag).decode
        while True:
            for batches in (await consumer.getmany(timeout_ms=200)).values():
                now = time.perf_counter()
                for batch in batches:
                    self._measure(batch, producer, now, [decode(value) for value in batch.values])

    def _measure(self, batch: RecordBatch, producer: _TimedProducer, now: float, flags: list[FraudFlag]) -> None:
        seen = self.measurements
        if seen.first_prediction_s is None:
            seen.first_prediction_s = now - self._started
        ids = (dict(headers)["id"] or b"" for headers in batch.headers)
        sent_at = producer.sent_at[batch.partition]
        seen.add(now, [now - sent_at[int(each.rpartition(b"/")[2])] for each in ids])
        flagged = [flag for flag in flags if flag.flagged]
        seen.flagged += len(flagged)
        seen.flags.extend(flagged)

    async def _until_all_received(self) -> None:
        deadline = time.perf_counter() + LAST_PREDICTIONS_TIMEOUT_S
        while time.perf_counter() < deadline:
            if self.measurements.received >= self.measurements.sent:
                return
            await asyncio.sleep(POLL_S)

    def _worker_ended(self, worker: asyncio.subprocess.Process) -> HeadraceError:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return HeadraceError(f"the worker ended with exit code {worker.returncode}: {last} (its log: {self._log})")


async def _label(world: _World, producer: EventProducer) -> None:
    """Send what becomes known, for ever."""
    while True:
        due = [world.labels.popleft() for _ in range(len(world.labels))]
        if due:
            keys, values = zip(*due, strict=True)
            await producer.send(keys, values)
            await producer.push()
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _consumer(kafka: Kafka, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **kafka.client_options(), auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        fetch_record_batches(consumer, CHUNK * 16)
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        yield consumer
    finally:
        await consumer.stop()
