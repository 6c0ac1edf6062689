"""Serves what the last rollout asks for: loads a version aside, checks it, and switches between two micro-batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.engine import ModelError
from streams.clock import Clock, SystemClock
from streams.errors import BrokerUnavailable, HeadraceError
from streams.following import Follower
from streams.pipeline import Served
from streams.records import RecordBatch
from streams.rollout import REPORTS_SUFFIX, Report, Rollout
from streams.settings import Kafka, Models
from streams.telemetry import Telemetry

logger = logging.getLogger(__name__)

LONG_POLL_MS = 500  # an idle worker asks so seldom; a rollout that comes is there at once
PAUSE_S = 1.0  # after an error of the broker


class Opened(Served[Any], Protocol):
    """A served version that holds an engine."""

    def close(self) -> None:
        """Release it."""


class Switchable(Protocol):
    """A pipeline whose model can be replaced while it runs."""

    name: str
    served: Opened
    rollout_of: str | None
    """The name of the model whose rollouts it follows; None where its version is fixed."""

    def open(self, version: int, sha256: str) -> Opened:
        """Load a version and check it: its sha256, its tensors, its golden batch, whether it suits the pipeline.

        Called from a thread beside the one that computes.

        Raises:
            ModelError, HeadraceError: it must not serve.
        """


class ModelSwitch:
    """Follows the rollouts of a pipeline's model. Belongs to one event loop.

    Whatever goes wrong with a version, the one before goes on, and the failure is logged, counted and reported.

    Args:
        pipeline: `served` is replaced.
        compute: the executor on whose one thread micro-batches are computed; the switch is a call of its own there.
        worker: what reports call this worker.
        switched: called on the event loop after a switch.
    """

    def __init__(
        self,
        pipeline: Switchable,
        models: Models,
        kafka: Kafka,
        compute: Executor,
        telemetry: Telemetry,
        worker: str,
        switched: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._pipeline, self._compute, self._telemetry = pipeline, compute, telemetry
        self._worker, self._switched = worker, switched
        self._clock = clock or SystemClock()
        self._partition = TopicPartition(models.control, 0)
        self._follower = Follower(kafka, [self._partition], LONG_POLL_MS, self._clock)
        self._loading = ThreadPoolExecutor(1, f"{pipeline.name}-loading")
        self._reports: list[Report] = []

    async def start(self, timeout_s: float) -> None:
        """Connect, and serve what the last rollout asks for before anything flows.

        Raises:
            BrokerUnavailable: the topic cannot be read within `timeout_s`.
        """
        try:
            await self._follower.start()
            async with asyncio.timeout(timeout_s):
                ends = await self._follower.end_offsets([self._partition])
                found: list[tuple[int, Rollout]] = []
                while not await self._follower.is_past(ends):
                    found += self._rollouts(await self._follower.poll([self._partition], LONG_POLL_MS))
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailable(
                f"reading rollouts from {self._partition.topic}: {error!r}; the worker does not start, since it would "
                "not know which version of its model is to serve"
            ) from error
        await self._apply_last(found)

    async def stop(self) -> None:
        """Close what is open."""
        await self._follower.stop()
        self._loading.shutdown(wait=False, cancel_futures=True)

    async def follow(self, producer: AIOKafkaProducer) -> None:
        """Apply rollouts as they come, until cancelled; without a broker, what serves goes on."""
        while True:
            try:
                await self._send_reports(producer)
                await self._apply_last(self._rollouts(await self._follower.poll([self._partition], LONG_POLL_MS)))
            except KafkaError as error:
                logger.warning("following rollouts on %s: %r; trying again", self._partition.topic, error)
                await asyncio.sleep(PAUSE_S)

    def _rollouts(self, batches: Iterable[RecordBatch]) -> list[tuple[int, Rollout]]:
        """Those of our model, with their offsets."""
        found = []
        for batch in batches:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                try:
                    rollout = msgspec.json.decode(value or b"", type=Rollout)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    logger.warning(
                        "decoding the rollout %s[0]@%d: %s; it is left out", self._partition.topic, offset, error
                    )
                    continue
                if rollout.model == self._pipeline.rollout_of:
                    found.append((offset, rollout))
        return found

    async def _apply_last(self, rollouts: list[tuple[int, Rollout]]) -> None:
        if not rollouts:
            return
        offset, rollout = rollouts[-1]
        started, error = self._clock.monotonic(), ""
        if rollout.reference != self._pipeline.served.model:
            error = await self._switch(rollout)
        serving = self._pipeline.served
        seconds = self._clock.monotonic() - started
        self._reports.append(
            Report(
                self._worker, self._pipeline.name, offset, rollout.reference, serving.model, serving.engine, seconds,
                error,
            )
        )  # fmt: skip

    async def _switch(self, rollout: Rollout) -> str:
        """Returns why the version must not serve; empty where it does now."""
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(self._loading, self._pipeline.open, rollout.version, rollout.sha256)
        except Exception as error:  # whatever a file can make a runtime raise, what serves must go on
            reason = str(error) if isinstance(error, (ModelError, HeadraceError)) else repr(error)
            self._telemetry.add("headrace_model_switches_total", 1, "failed")
            logger.error(  # noqa: TRY400 - the sentence says it all
                "rollout of %s: %s; %s goes on serving", rollout.reference, reason, self._pipeline.served.model
            )
            return reason
        before = await loop.run_in_executor(self._compute, self._exchange, opened)
        self._telemetry.add("headrace_model_switches_total", 1, "done")
        self._switched()
        logger.info("rollout: %s on %s serves instead of %s", opened.model, opened.engine, before)
        return ""

    def _exchange(self, opened: Opened) -> str:
        """In the compute thread, where no micro-batch is under way."""
        before, self._pipeline.served = self._pipeline.served, opened
        reference = before.model
        before.close()
        return reference

    async def _send_reports(self, producer: AIOKafkaProducer) -> None:
        while self._reports:
            report = self._reports[0]
            key = (self._pipeline.rollout_of or "").encode()
            await producer.send_and_wait(self._partition.topic + REPORTS_SUFFIX, msgspec.json.encode(report), key=key)
            self._reports.pop(0)
