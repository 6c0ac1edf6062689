"""Serves what the last rollout asks for: loads versions aside, checks them, and switches between two micro-batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.engine import ModelError
from streams.acls import explained
from streams.challenger import Challenger
from streams.clock import Clock, SystemClock
from streams.compute import ComputeThreads
from streams.emitter import Letters, hand_over, settle
from streams.errors import BrokerUnavailable, HeadraceError, ProduceError
from streams.following import Follower
from streams.pipeline import Opened
from streams.processor import Processor
from streams.records import RecordBatch
from streams.rollout import KEPT_A_WEEK, REPORTS_SUFFIX, SHADOW, Report, Rollout, decode, incomparable
from streams.settings import Settings
from streams.telemetry import Telemetry
from streams.topics import Topic, prepare

logger = logging.getLogger(__name__)

LONG_POLL_MS = 500  # an idle worker asks so seldom; a rollout that comes is there at once
PAUSE_S = 1.0  # after an error of the broker
COMPARISONS = 8  # record batches of comparisons on their way; what comes while they are is dropped


class Switchable(Protocol):
    """A pipeline whose model can be replaced while it runs."""

    name: str
    input_topic: str
    output_topic: str
    served: Opened[Any]
    rollout_of: str
    """The name of the model whose rollouts it follows."""
    comparable: bool
    """Whether a challenger's predictions can stand beside the champion's: single numbers that no state follows."""

    def open(self, version: int, sha256: str) -> Opened[Any]:
        """Load a version and check it: its sha256, its tensors, its golden batch, whether it suits the pipeline.

        Called from a thread beside the one that computes.

        Raises:
            ModelError, HeadraceError: it must not serve.
        """


class ModelSwitch:
    """Follows the rollouts of a pipeline's model. Belongs to one event loop.

    Whatever goes wrong with a version, the one before goes on, and the failure is logged, counted and reported.

    Args:
        processor: of a `Switchable` pipeline, whose `served` is replaced.
        compute: the executor on whose one thread micro-batches are finished; the switch is a call of its own there.
        worker: what reports call this worker.
        switched: called on the event loop after a switch.
    """

    def __init__(
        self,
        processor: Processor[Any],
        settings: Settings,
        compute: Executor,
        telemetry: Telemetry,
        worker: str,
        switched: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._processor, self._settings, self._compute = processor, settings, compute
        self._pipeline: Switchable = processor.pipeline  # type: ignore[assignment]
        self._telemetry, self._worker, self._switched = telemetry, worker, switched
        self._clock = clock or SystemClock()
        self._partition = TopicPartition(settings.models.control, 0)
        self._follower = Follower(settings.kafka, [self._partition], LONG_POLL_MS, self._clock)
        self._loading = ComputeThreads(f"{self._pipeline.name}-loading")  # an engine may take minutes to be built
        self._reports: asyncio.Queue[Report] = asyncio.Queue()
        self._comparisons: asyncio.Queue[Letters] = asyncio.Queue(COMPARISONS)

    async def start(self) -> None:
        """Connect, and serve what the last rollout asks for before anything flows.

        Raises:
            BrokerUnavailable: the topic cannot be read within `worker.broker_timeout_s`.
        """
        try:
            await self._follower.start()
            async with asyncio.timeout(self._settings.worker.broker_timeout_s):
                found = await self._follower.read_to_end(self._partition)
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailable(
                f"reading rollouts from {self._partition.topic}: {error!r}; the worker does not start, since it would "
                "not know which version of its model is to serve"
            ) from error
        await self._apply_last(self._rollouts(found))

    async def stop(self) -> None:
        """Close what is open."""
        await self._follower.stop()
        self._loading.shutdown(wait=False, cancel_futures=True)
        if self._processor.challenger is not None:
            self._processor.challenger.stop()

    async def follow(self, producer: AIOKafkaProducer) -> None:
        """Apply rollouts as they come, until cancelled; without a broker, what serves goes on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._write_reports(producer))
            tasks.create_task(self._write_comparisons(producer))

    async def _follow(self) -> None:
        while True:
            try:
                await self._apply_last(self._rollouts(await self._follower.poll([self._partition], LONG_POLL_MS)))
            except KafkaError as error:
                logger.warning("following rollouts on %s: %r; trying again", self._partition.topic, error)
                await asyncio.sleep(PAUSE_S)

    def _rollouts(self, batches: Iterable[RecordBatch]) -> list[tuple[int, Rollout]]:
        """Those of our model, with their offsets."""
        found = decode(batches, Rollout, logger.warning)
        return [(offset, rollout) for offset, rollout in found if rollout.model == self._pipeline.rollout_of]

    async def _apply_last(self, rollouts: list[tuple[int, Rollout]]) -> None:
        if not rollouts:
            return
        offset, rollout = rollouts[-1]
        started = self._clock.monotonic()
        errors = [await self._switch(rollout), await self._challenge(rollout)]
        serving, challenger = self._pipeline.served, self._processor.challenger
        self._reports.put_nowait(
            Report(
                worker=self._worker,
                pipeline=self._pipeline.name,
                rollout=offset,
                asked=rollout.reference,
                serving=serving.model,
                engine=serving.engine,
                seconds=self._clock.monotonic() - started,
                challenger="" if challenger is None else challenger.served.model,
                error="; ".join(filter(None, errors)),
            )
        )

    async def _switch(self, rollout: Rollout) -> str:
        """Returns why the version must not serve; empty where it does now."""
        if rollout.reference == self._pipeline.served.model:
            return ""
        opened, error = await self._open(rollout.version, rollout.sha256)
        if opened is None:
            self._telemetry.add("headrace_rollouts_total", 1, "failed")
            logger.error("rollout of %s: %s; %s goes on serving", rollout.reference, error, self._pipeline.served.model)
            return error
        before = await self._in_between(partial(self._exchange, opened))
        self._telemetry.add("headrace_rollouts_total", 1, "done")
        self._switched()
        logger.info("rollout: %s on %s serves instead of %s", opened.model, opened.engine, before)
        return ""

    async def _challenge(self, rollout: Rollout) -> str:
        """End what is beside the champion, begin what is to be; returns why that must not be."""
        asked, now = rollout.challenge, self._processor.challenger
        reference = asked and f"{rollout.model}/{asked.version}"
        if now is not None and asked is not None and (now.served.model, now.share) == (reference, asked.share):
            return ""
        if now is not None:
            await self._in_between(partial(setattr, self._processor, "challenger", None))
            now.stop()
        if asked is None:
            return ""
        if not self._pipeline.comparable:
            error = f"challenge of {reference}: {incomparable(self._pipeline.name)}"
            logger.error("%s", error)
            return error
        opened, error = await self._open(asked.version, asked.sha256)
        if opened is None:
            logger.error("challenge of %s: %s; %s is alone", reference, error, self._pipeline.served.model)
            return error
        topic = self._pipeline.output_topic + SHADOW
        if error := await self._make(topic):
            opened.close()
            logger.error("challenge of %s: %s; %s is alone", reference, error, self._pipeline.served.model)
            return error
        challenger = Challenger(
            opened,
            asked.share,
            topic,
            partial(_on_loop, asyncio.get_running_loop(), self._take_comparisons),
            self._telemetry,
            self._settings.models.shadow_budget,
            self._clock,
        )
        await self._in_between(partial(setattr, self._processor, "challenger", challenger))
        role = f"answers for {asked.share:.3g} of the keys" if asked.share else "is in the shadow"
        logger.info("challenge: %s on %s %s beside %s", reference, opened.engine, role, self._pipeline.served.model)
        return ""

    async def _open(self, version: int, sha256: str) -> tuple[Opened[Any] | None, str]:
        """A version that is ready, or why it is not."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._loading, self._pipeline.open, version, sha256), ""
        except Exception as error:  # whatever a file can make a runtime raise, what serves must go on
            return None, str(error) if isinstance(error, (ModelError, HeadraceError)) else repr(error)

    async def _in_between(self, change: Callable[[], Any]) -> Any:
        """Make a change in the compute thread, since it may wait; the event loop may finish a micro-batch beside."""
        return await asyncio.get_running_loop().run_in_executor(self._compute, change)

    def _exchange(self, opened: Opened[Any]) -> str:
        reference = self._pipeline.served.model
        self._processor.exchange(opened)
        return reference

    async def _make(self, topic: str) -> str:
        """The topic of comparisons, unless it is there; returns why it cannot be, or takes no comparisons."""
        try:
            await prepare(self._settings.kafka, [Topic(self._pipeline.input_topic), Topic(topic, KEPT_A_WEEK)])
        except HeadraceError as error:
            return str(error)
        return ""

    def _take_comparisons(self, letters: Letters) -> None:
        if self._comparisons.full():
            self._telemetry.add("headrace_comparison_records_lost_total", letters.records)
        else:
            self._comparisons.put_nowait(letters)

    async def _write_comparisons(self, producer: AIOKafkaProducer) -> None:
        """At most once: predictions do not wait for them."""
        while True:
            letters = await self._comparisons.get()
            try:
                sent = await hand_over(producer, letters, lambda: True)
                await settle(letters.partition, sent or (), self._settings.worker.broker_timeout_s)
            except ProduceError as error:
                self._telemetry.add("headrace_comparison_records_lost_total", letters.records)
                logger.warning("comparing models: %s", str(error).partition("; the worker stops")[0])

    async def _write_reports(self, producer: AIOKafkaProducer) -> None:
        """Beside the following: a rollback must be served, too, where its report cannot be written."""
        while True:
            await self._write_report(producer, msgspec.json.encode(await self._reports.get()))

    async def _write_report(self, producer: AIOKafkaProducer, report: bytes) -> None:
        topic, key = self._partition.topic + REPORTS_SUFFIX, self._pipeline.rollout_of.encode()
        while True:
            try:
                await producer.send_and_wait(topic, report, key=key)
            except KafkaError as error:
                logger.warning("reporting a rollout on %s: %s; trying again", topic, explained(error, "WRITE"))
                await asyncio.sleep(PAUSE_S)
            else:
                return


def _on_loop(loop: asyncio.AbstractEventLoop, take: Callable[[Letters], None], letters: Letters) -> None:
    """From the challenger's thread; where the loop has ended, there is nobody to tell."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(take, letters)
