"""The fraud half of the demo: simulated card transactions, and the flags that become of them."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgspec
from aiokafka import AIOKafkaConsumer

from connectors.simulators.labels import records as simulated_labels
from connectors.simulators.transactions import DAY_MS, TransactionSettings, blocks
from streams.clock import SystemClock
from streams.demo.figures import Figures
from streams.demo.home import CONFIG, PARTITIONS, consumer, until
from streams.demo.processes import WorkerProcess
from streams.producing import EventProducer, Events, Pace, pump
from streams.records import Headers, RecordBatch
from streams.schemas import FraudFlag
from streams.settings import Kafka, Settings

# Some 4 000 transactions a simulated day: at 2 000/s the first labels come after a quarter of a minute, and it takes
# hours until the present.
WORLD = TransactionSettings(customers=2_000, terminals=4_000, start=datetime(2015, 1, 1, tzinfo=UTC))
LABEL_DELAY_MS = 7 * DAY_MS
RECENT_FLAGS = 50
CHUNK = 256
POLL_S = 0.1
LAST_PREDICTIONS_TIMEOUT_S = 10.0


class FraudDemo:
    """Card transactions through a fraud worker.

    Args:
        rate: transactions a second.
        started: when the demo did, by `time.perf_counter`.
        tell: called with one sentence a step while it starts and ends.
    """

    pipeline = "fraud"

    def __init__(self, rate: float, started: float, tell: Callable[[str], None]) -> None:
        self.figures = Figures()
        self.flagged = 0
        self.flags: deque[FraudFlag] = deque(maxlen=RECENT_FLAGS)
        """The newest, newest last."""
        self._rate, self._started, self._tell = rate, started, tell

    async def run(self, settings: Settings, stop: asyncio.Event) -> None:
        """Start a worker, produce and measure until `stop`, end it all.

        Raises:
            HeadraceError: something did not start, or the worker ended by itself.
        """
        kafka, fraud = settings.kafka, settings.fraud
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(WorkerProcess(self.pipeline, CONFIG, self._tell))
            flags = await stack.enter_async_context(consumer(kafka, [fraud.output]))
            producer = _TimedProducer(kafka, fraud.input)
            await stack.enter_async_context(producer)
            labels = await stack.enter_async_context(EventProducer(kafka, fraud.labels))
            await worker.until_ready(stop)
            if not stop.is_set():
                world = _World()
                sending = self._send(producer, world, stop)
                await worker.during(sending, self._receive(flags, producer), _label(world, labels))

    async def _send(self, producer: EventProducer, world: _World, stop: asyncio.Event) -> None:
        await pump(producer, world.transactions(), Pace(rate=self._rate), stop, self._on_sent)
        await until(lambda: self.figures.received >= self.figures.sent, LAST_PREDICTIONS_TIMEOUT_S)

    def _on_sent(self, sent: int) -> None:
        self.figures.sent = sent

    async def _receive(self, flags: AIOKafkaConsumer, producer: _TimedProducer) -> None:
        decode = msgspec.json.Decoder(FraudFlag).decode
        while True:
            for batches in (await flags.getmany(timeout_ms=200)).values():
                now = time.perf_counter()
                for batch in batches:
                    self._measure(batch, producer, now, [decode(value) for value in batch.values])

    def _measure(self, batch: RecordBatch, producer: _TimedProducer, now: float, flags: list[FraudFlag]) -> None:
        if self.figures.first_s is None:
            self.figures.first_s = now - self._started
        ids = (dict(headers)["id"] or b"" for headers in batch.headers)
        sent_at = producer.sent_at[batch.partition]
        self.figures.add(now, [now - sent_at[int(each.rpartition(b"/")[2])] for each in ids])
        flagged = [flag for flag in flags if flag.flagged]
        self.flagged += len(flagged)
        self.flags.extend(flagged)


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


async def _label(world: _World, producer: EventProducer) -> None:
    """Send what becomes known, for ever."""
    while True:
        due = [world.labels.popleft() for _ in range(len(world.labels))]
        if due:
            keys, values = zip(*due, strict=True)
            await producer.send(keys, values)
            await producer.push()
        await asyncio.sleep(POLL_S)
