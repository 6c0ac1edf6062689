"""One worker process of one pipeline: builds the parts, runs them, and says why it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from streams import encoding, topics
from streams.acls import explained
from streams.app import App, create_app
from streams.clock import Clock, SystemClock
from streams.compute import ComputeThreads
from streams.deadletter import DeadLetterGuard
from streams.drifting import DriftWatch
from streams.emitter import Emitter, Sender
from streams.engine_reason import in_full
from streams.errors import BrokerUnavailable, HeadraceError, ProduceError
from streams.health import Health, HealthServer
from streams.pipelines import PIPELINES
from streams.processor import Processor
from streams.recovery import state_manager
from streams.rollout import control_topics
from streams.runner import Runner
from streams.serving import ModelSwitch
from streams.settings import Settings
from streams.state import KeyedState
from streams.tables import Table, TableReader
from streams.telemetry import Telemetry
from streams.transactions import TransactionalEmitter
from streams.watchdog import PartitionView, Watchdog

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 20.0
HOPELESS_STOP_S = 3.0


class Worker:
    """Runs one pipeline until a signal, an error or `stop`.

    Args:
        settings: all of them.
        pipeline: a name in `streams.pipelines.PIPELINES`, or a pipeline itself.
    """

    def __init__(self, settings: Settings, pipeline: Any, clock: Clock | None = None) -> None:
        self.pipeline = PIPELINES[pipeline].build(settings) if isinstance(pipeline, str) else pipeline
        settings = msgspec.structs.replace(settings, batch=getattr(self.pipeline, "batch", settings.batch))
        self.settings = settings
        self.group = settings.worker.group_of(self.pipeline.name)
        self.clock = clock or SystemClock()
        self.health = Health()
        self.telemetry = Telemetry(self.pipeline.name)
        stateful = self.pipeline.new_store() is not None
        changelog = topics.changelog_topic(self.group)
        self.state = KeyedState(changelog, self.pipeline.new_store, self.clock) if stateful else None
        self._instances = ComputeThreads(f"{self.pipeline.name}-instance", getattr(self.pipeline, "instances", 1))
        self._compute = ComputeThreads(f"{self.pipeline.name}-compute")
        table = self.pipeline.table
        followed = () if table is None else table.topics()
        self._followed = [topic for topic in followed if topic != self.pipeline.input_topic]
        self._table_log = topics.table_topic(self.group) if self.pipeline.input_topic in followed else None
        guard = DeadLetterGuard(settings.dead_letter)
        self._processor = Processor(self.pipeline, self.state, guard, self.clock, self._table_log)
        self._name_model()
        self.runner = Runner(self._processor, self._instances, self._compute, settings, self.telemetry, self.clock)
        self.app: App | None = None
        self._transactions: TransactionalEmitter | None = None
        self._reader: TableReader | None = None
        self._partitions: Mapping[str, int] = {}
        self._switch: ModelSwitch | None = None
        if hasattr(self.pipeline, "rollout_of"):
            self._switch = ModelSwitch(
                self._processor,
                settings,
                self._compute,
                self.telemetry,
                settings.worker.slot or f"{socket.gethostname()}:{os.getpid()}",
                self._name_model,
                self.clock,
            )
        self._server = HealthServer(self.health, self.telemetry, settings.worker.http_host, settings.worker.http_port)
        self._stop = asyncio.Event()
        self._contact_at = self.clock.monotonic()

    def _name_model(self) -> None:
        """Say what serves, in readiness and in metrics, and why nothing better does; cheap where nothing changed."""
        served = self.pipeline.served
        better = {each.name: each.reason for each in getattr(served, "passed", ())}
        better |= {each.engine: each.reason for each in getattr(served, "falls", ())}
        named = {"pipeline": self.pipeline.name, "model": served.model, "engine": served.engine}
        details: dict[str, object] = named | ({"better_engines": better} if better else {})
        challenger = self._processor.challenger
        if challenger is not None:
            details["challenger"] = {"model": challenger.served.model, "share": challenger.share}
        if details == self.health.details:
            return
        known = self.health.details.get("better_engines", {})
        self.health.details = details
        self.telemetry.model(served.model, served.engine, list(better))
        for which_and_why in in_full(better) if better != known else ():
            logger.info("%s is served on %s, not on %s", served.model, served.engine, which_and_why)

    @property
    def http_port(self) -> int:
        """Where `/metrics` and `/health` are served, once started."""
        return self._server.port

    def stop(self) -> None:
        """Ask for an orderly end: finish what is in flight, commit, leave the group."""
        self._stop.set()

    async def run(self) -> None:
        """Returns after an orderly end.

        Raises:
            HeadraceError: what made going on impossible.
        """
        wanted = topics.pipeline_topics(
            self.pipeline.input_topic,
            self.pipeline.output_topic,
            self.group,
            state=self.state is not None,
            logged=self._table_log is not None,
            followed=self._followed,
            copartitioned=self.pipeline.table is not None and self.pipeline.table.copartitioned,
            beside=getattr(self.pipeline, "topics_beside", ()),
            max_message_bytes=getattr(self.pipeline, "max_message_bytes", 0),
        )
        if self._switch is not None:
            wanted += control_topics(self.settings.models)
        self._partitions = await topics.prepare(self.settings.kafka, wanted)
        self._reader = self._table_reader()
        if self.settings.worker.processing_guarantee == "exactly_once":
            self._transactions = TransactionalEmitter(
                self.settings, self.group, self.pipeline.input_topic, self.telemetry, self.clock
            )
            self.runner.emitter = self._transactions
        await self._server.start()
        try:
            self.health.set("starting", "loading and compiling")
            await asyncio.get_running_loop().run_in_executor(self._compute, self._warm_up)
            if self._switch is not None:
                await self._switch.start()
            if self._reader is not None:
                await self._start_reader(self._reader)
            tables = state_manager(self._restore, self._flowing)
            self.app = create_app(self.settings, self.group, self.pipeline.input_topic, self.runner, tables)
            logger.info(
                "worker %s: %s, group %s, %s (%d partitions) -> %s, model %s on %s, metrics and health on http://%s:%d",
                self.pipeline.name,
                self.settings.worker.processing_guarantee.replace("_", " "),
                self.group,
                self.pipeline.input_topic,
                self._partitions[self.pipeline.input_topic],
                self.pipeline.output_topic,
                self.pipeline.served.model,
                self.pipeline.served.engine,
                self.settings.worker.http_host,
                self.http_port,
            )
            await self._run_app(self.app)
        finally:
            await self._server.stop()
            if self._transactions is not None:
                await self._transactions.stop()
            if self._reader is not None:
                await self._reader.stop()
            if self._switch is not None:
                await self._switch.stop()
            for threads in (self._instances, self._compute):
                threads.shutdown(wait=False, cancel_futures=True)
            close: Callable[[], None] | None = getattr(self.pipeline, "close", None)
            if close is not None:
                close()

    async def _start_reader(self, reader: TableReader) -> None:
        try:
            await reader.start()
        except KafkaError as error:
            raise topics.unavailable(self.settings.kafka, error) from error
        self.health.set("starting", "reading the table")
        filling, stopping = asyncio.create_task(reader.fill()), asyncio.create_task(self._stop.wait())
        await asyncio.wait({filling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not filling.cancel():
            filling.result()

    def _table_reader(self) -> TableReader | None:
        table: Table | None = self.pipeline.table
        if table is None:
            return None
        self.runner.reader = TableReader(
            table,
            self._table_log,
            self.pipeline.input_topic,
            self._partitions,
            self.settings.kafka,
            self.settings.worker.broker_timeout_s,
            self.clock,
        )
        table.reached = partial(self._reached, self.runner.reader)
        return self.runner.reader

    def _reached(self, reader: TableReader, time_ms: int) -> bool:
        if reader.reached(time_ms):
            return True
        self.telemetry.add("headrace_table_timeouts_total", 1)
        logger.warning(
            "worker %s: the topics of its table could not be read for worker.broker_timeout_s = %g; results of "
            "a micro-batch may lack what they hold",
            self.pipeline.name,
            self.settings.worker.broker_timeout_s,
        )
        return False

    def _warm_up(self) -> None:
        encoding.warm_up()
        self.pipeline.warm_up()
        gc.freeze()  # what is loaded by now stays: the collector need not walk it again

    async def _run_app(self, app: App) -> None:
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(self._stop.wait()), asyncio.create_task(self._serve(app))}
        failure: BaseException | None = None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failure = next((_cause(task.exception()) for task in done if task.exception()), None)
            if failure is not None:
                self.health.set("stopped", str(failure))
                logger.error("worker %s stops: %s", self.pipeline.name, failure)
        finally:
            # Without broker, membership or consumer nothing can be committed: to wait for it is to wait for nothing.
            alone = app.crashed or app.consumer.membership.excluded
            hopeless = alone or isinstance(failure, (BrokerUnavailable, ProduceError))
            in_order = await self._stop_app(app, tasks, HOPELESS_STOP_S if hopeless else STOP_TIMEOUT_S)
        if failure is not None:
            raise failure
        logger.info("worker %s ended in order" if in_order else "worker %s ended", self.pipeline.name)
        if not in_order:
            raise HeadraceError(
                f"worker {self.pipeline.name} did not end in order within {STOP_TIMEOUT_S:g} s; what is uncommitted "
                "is read again"
            )

    async def _serve(self, app: App) -> None:
        """Everything that runs until something fails."""
        await self._start(app)
        producer = (await app.maybe_start_producer())._producer
        async with asyncio.TaskGroup() as parts:
            if self._transactions is None:
                emitter: Sender = Emitter(producer, self.settings.worker.broker_timeout_s)
            else:
                emitter = self._transactions
                parts.create_task(self._transactions.watch())
            if self._reader is not None:
                parts.create_task(self._reader.watch())
            if self._switch is not None:
                parts.create_task(self._switch.follow(producer))
            if hasattr(self.pipeline, "unsettled"):
                parts.create_task(DriftWatch(self.pipeline, self._compute, self.telemetry).run())
            parts.create_task(self.runner.run(app.consumer, emitter))
            parts.create_task(self._watch(app))

    async def _start(self, app: App) -> None:
        """Until the first assignment is restored; Faust itself would wait for a broker for ever."""
        starting = asyncio.create_task(app.start())
        self._contact_at = self.clock.monotonic()
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=LOOK_INTERVAL_S)
                if self.health.phase == "restoring":
                    self._contact_at = self.clock.monotonic()  # a restore bounds itself
                self._check_contact(app)
        finally:
            starting.cancel()
        try:
            starting.result()
        except KafkaError as error:  # between the look at the topics and the clients' first connection
            raise topics.unavailable(self.settings.kafka, error) from error
        if app.crashed:
            raise _crash(app, self.group)

    async def _stop_app(self, app: App, tasks: set[asyncio.Task[Any]], timeout_s: float) -> bool:
        """Drain, commit and leave the group while the runner still runs; then end the tasks. False: not in time."""
        stopping = asyncio.create_task(app.stop())
        _, late = await asyncio.wait({stopping}, timeout=timeout_s)
        for task in (*tasks, *late):
            task.cancel()
        await asyncio.wait(tasks, timeout=LOOK_INTERVAL_S)
        return not late

    async def _restore(self, partitions: list[int]) -> None:
        self.telemetry.add("headrace_rebalances_total", 1)
        self.telemetry.set("headrace_assigned_partitions", len(partitions))
        topics.check_assigned(self.pipeline.input_topic, partitions, self._partitions)
        # First: what the last owner left open would hold up the reading, and it could still write behind it.
        if self._transactions is not None and not await self._transactions.open(partitions):
            return
        if self.state is not None and partitions:
            self.health.set("restoring", f"reading {self.state.topic}{partitions}")
            report = await self.state.restore(partitions, self.settings.kafka, self.settings.worker.broker_timeout_s)
            self.telemetry.add("headrace_restored_records_total", report.records)
            self.telemetry.observe("headrace_restore_seconds", report.seconds)
            logger.info(
                "restored %s%s: %d records in %.2f s", self.state.topic, partitions, report.records, report.seconds
            )

        if self._reader is not None and partitions:
            self.health.set("restoring", "reading the table")
            records = await self._reader.assigned(partitions)
            if self._table_log is not None:
                logger.info("read %s%s: %d records", self._table_log, partitions, records)
        assigned: Callable[[dict[int, Any]], None] | None = getattr(self.pipeline, "assigned", None)
        if assigned is not None and self.state is not None:
            assigned({partition: self.state.store(partition) for partition in partitions})

    def _flowing(self, partitions: list[int]) -> None:
        self.health.set("running", f"{len(partitions)} partitions assigned")

    async def _watch(self, app: App) -> None:
        """Once a second: lag, state size, stalls, and whether Faust itself has crashed."""
        timeout_s = self.settings.worker.stall_timeout_s
        watchdog = Watchdog(timeout_s)
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if app.crashed:
                raise _crash(app, self.group)
            views = app.consumer.views()
            self._gauges(views)
            self._check_contact(app)
            if app.rebalancing or self.health.phase in ("starting", "restoring"):
                watchdog.reset()
                continue
            stalled = watchdog.look(views, self.clock.monotonic())
            if stalled:
                worst = max(stalled, key=lambda partition: stalled[partition])
                reason = f"{self.pipeline.input_topic}[{worst}] makes no progress since {stalled[worst]:.0f} s"
                self.health.set("stalled", reason)
                if stalled[worst] >= 2 * timeout_s:
                    raise HeadraceError(f"{reason}; the worker ends so that its supervisor starts another")
            elif self.health.phase == "stalled":
                self.health.set("running", f"{len(views)} partitions assigned")

    def _check_contact(self, app: App) -> None:
        """Without a coordinator or a place in its group nothing can be done; aiokafka waits for ever, and is silent."""
        if app.consumer.membership.excluded:
            raise HeadraceError(app.consumer.membership.excluded)
        now, limit_s = self.clock.monotonic(), self.settings.worker.broker_timeout_s
        if app.consumer.has_coordinator():
            self._contact_at = now
        elif now - self._contact_at >= limit_s:
            raise BrokerUnavailable(
                f"no contact with the group coordinator at {self.settings.kafka.bootstrap_servers} for {limit_s:g} s "
                "(worker.broker_timeout_s); the worker ends so that its supervisor starts another"
            )

    def _gauges(self, views: dict[int, PartitionView]) -> None:
        self._name_model()  # an engine may have given way to the next
        self.telemetry.set("headrace_ready", float(self.health.ready))
        self.telemetry.set("headrace_tasks", len(asyncio.all_tasks()))
        lag = {p: max(0, v.end - v.done) for p, v in views.items() if v.end is not None and v.done is not None}
        self.telemetry.lag(lag, self.clock.time())
        if self.state is not None:
            stores = self.state.stores().values()
            self.telemetry.set("headrace_state_keys", sum(map(len, stores)))
            self.telemetry.set("headrace_state_bytes", sum(store.nbytes for store in stores))
        if self.pipeline.table is not None:
            self.telemetry.set("headrace_table_bytes", self.pipeline.table.nbytes)
        if hasattr(self.pipeline, "gauges"):
            for name, value in self.pipeline.gauges().items():
                self.telemetry.set(name, value)
            for name, values in self.pipeline.observations().items():
                self.telemetry.observe_all(name, values)


def _crash(app: App, group: str) -> HeadraceError:
    """What made Faust end: our own error, as it is, or somebody else's."""
    reason = app.crash_reason
    if reason is None or isinstance(reason, HeadraceError):
        return reason or HeadraceError(f"the consumer of group {group} has ended")
    return HeadraceError(f"the consumer of group {group}: {explained(reason, 'READ')}")


def _cause(error: BaseException | None) -> BaseException | None:
    """The first real error in a task group's exception."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
