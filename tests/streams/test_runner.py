"""From deliveries to acknowledgements: what is acknowledged when, in which order, and what a rebalance does to it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from streams.deadletter import DeadLetterGuard
from streams.emitter import Emitter
from streams.errors import DeadLetterLimit, ModelFailing, ProduceError
from streams.pipeline import Processor
from streams.runner import Runner
from streams.settings import Batch, DeadLetter, Settings, Worker
from streams.state import KeyedState
from streams.telemetry import Telemetry
from tests.counting import CountingPipeline, CountStore
from tests.streams.inmemory import TOPIC, Assignment, Log, Message, batch

OUT, CHANGELOG = "counts", "counts.changelog"
LONG_S = 10.0


class Gated(CountingPipeline):
    """A counting pipeline whose model can be held up."""

    def __init__(self) -> None:
        super().__init__(TOPIC, OUT)
        self.inferring, self.go = threading.Event(), threading.Event()
        self.go.set()

    def infer(self, features: Any) -> Any:
        self.inferring.set()
        self.go.wait(LONG_S)
        return super().infer(features)


class Bench:
    """A runner between an assignment and a log."""

    def __init__(self, *, acknowledge: bool = True, **sections: Any) -> None:
        self.settings = Settings(**({"worker": Worker(drain_timeout_s=0.2)} | sections))
        self.pipeline = Gated()
        self.state = KeyedState(CHANGELOG, CountStore)
        self.telemetry = Telemetry("counting")
        self.compute = ThreadPoolExecutor(1)
        processor = Processor(self.pipeline, self.state, DeadLetterGuard(self.settings.dead_letter))
        self.runner = Runner(processor, self.compute, self.settings, self.telemetry)
        self.consumer, self.log = Assignment(), Log(acknowledge=acknowledge)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.runner.run(self.consumer, Emitter(self.log)))  # type: ignore[arg-type]
        try:
            yield task
        finally:
            self.pipeline.go.set()
            task.cancel()
            await asyncio.wait({task}, timeout=LONG_S)
            self.compute.shutdown()
            assert task.done(), "the runner goes on after it was cancelled"

    async def deliver(self, values: list[bytes], start: int, partition: int = 0) -> Message:
        message = self.consumer.deliver(batch(values, start=start, partition=partition))
        await asyncio.wait_for(self.runner.offer(message, self.consumer), LONG_S)
        return message

    def offsets(self, partition: int = 0) -> list[int]:
        return [json.loads(each.value or b"")["offset"] for each in self.log.of(OUT, partition)]

    def mark(self, partition: int = 0) -> int | None:
        return self.consumer.marks.committable(partition)

    async def revoke(self, *partitions: int) -> None:
        """As the transport does it: drain, then hand over."""
        await self.runner.drain()
        self.consumer.revoke(partitions)
        self.runner.revoked(frozenset(partitions))

    def metric(self, name: str) -> float:
        page = self.telemetry.expose().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith((name + "{", name + " ")))


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 30)

    asyncio.run(bounded())


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.002)


def test_deliveries_become_outputs_and_changes_and_move_the_mark() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            for number in range(10):
                await bench.deliver([b"x"] * 5, 5 * number, number % 2)
            await _until(lambda: (bench.mark(0), bench.mark(1)) == (45, 50))
        assert sorted(bench.offsets(0) + bench.offsets(1)) == list(range(50))
        assert len(bench.log.of(CHANGELOG)) >= 2
        assert bench.metric("headrace_records_in_total") == bench.metric("headrace_records_out_total") == 50

    _run(scenario)


def test_nothing_is_acknowledged_before_the_broker_has_acknowledged_all_of_it() -> None:
    async def scenario() -> None:
        bench = Bench(acknowledge=False)
        async with bench.running():
            await bench.deliver([b"x", b"poison"], 0)
            await _until(lambda: len(bench.log.records) == 3)  # the prediction, the dead letter, the change
            assert bench.mark() is None
            bench.log.release()
            await _until(lambda: bench.mark() == 2)

    _run(scenario)


def test_acknowledgements_out_of_order_do_not_pass_a_batch_in_flight() -> None:
    async def scenario() -> None:
        bench = Bench(acknowledge=False, batch=Batch(max_batch_size=1))
        async with bench.running():
            for offset in range(4):
                await bench.deliver([b"x"], offset)
            await _until(lambda: len(bench.offsets()) == 4)
            held = bench.log._pending[:2]
            bench.log._pending = bench.log._pending[2:]
            bench.log.release(last_first=True)
            await asyncio.sleep(0.05)
            assert bench.mark() is None
            bench.log._pending = held
            bench.log.release()
            await _until(lambda: bench.mark() == 4)

    _run(scenario)


def test_outputs_of_a_partition_keep_the_order_of_its_input() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=16))
        async with bench.running():
            for number in range(60):
                await bench.deliver([b"x"] * 3, 3 * (number // 3), number % 3)
            await _until(lambda: all(bench.mark(partition) == 60 for partition in range(3)))
        for partition in range(3):
            assert bench.offsets(partition) == list(range(60))

    _run(scenario)


def test_the_event_loop_goes_on_while_the_model_computes() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await _until(bench.pipeline.inferring.is_set)
            started = time.monotonic()
            await asyncio.sleep(0.01)
            assert time.monotonic() - started < 1.0

    _run(scenario)


def test_a_drain_lets_what_is_computed_finish_and_drops_what_waits() -> None:
    async def scenario() -> None:
        bench = Bench(worker=Worker(drain_timeout_s=LONG_S))
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await _until(bench.pipeline.inferring.is_set)
            await bench.deliver([b"x"], 1)  # waits behind it
            drain = asyncio.create_task(bench.runner.drain())
            await asyncio.sleep(0.02)
            assert not drain.done()
            bench.pipeline.go.set()
            await asyncio.wait_for(drain, LONG_S)
            assert (bench.mark(), bench.offsets()) == (1, [0])

    _run(scenario)


def test_a_drain_is_bounded_and_what_comes_late_is_neither_produced_nor_acknowledged() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"] * 3, 0)
            await _until(bench.pipeline.inferring.is_set)
            started = time.monotonic()
            await bench.revoke(0)
            assert time.monotonic() - started < 5.0
            bench.pipeline.go.set()
            await _until(lambda: bench.metric("headrace_records_discarded_total") == 3)
            assert bench.log.records == []
            assert bench.mark() is None
            # The partition comes back, and the same records are delivered again.
            await bench.deliver([b"x"] * 3, 0)
            await _until(lambda: bench.mark() == 3)
            assert bench.offsets() == [0, 1, 2]

    _run(scenario)


def test_the_state_of_a_revoked_partition_that_was_still_busy_is_read_back_and_others_are_kept() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            await bench.deliver([b"x"], 0, partition=1)
            await _until(lambda: bench.mark(1) == 1)
            kept = bench.state.store(1)
            bench.pipeline.inferring.clear()
            bench.pipeline.go.clear()
            await bench.deliver([b"x"], 0, partition=0)
            await _until(bench.pipeline.inferring.is_set)
            ahead = bench.state.store(0)
            await bench.revoke(0, 1)
            assert bench.state.store(0) is not ahead
            assert len(bench.state.store(0)) == 0
            assert bench.state.store(1) is kept

    _run(scenario)


def test_a_late_batch_does_not_touch_the_state_that_was_restored_meanwhile() -> None:
    class SlowDecode(Gated):
        def decode(self, batch: Any) -> Any:
            self.inferring.set()
            self.go.wait(LONG_S)
            return super().decode(batch)

    async def scenario() -> None:
        bench = Bench()
        slow = SlowDecode()
        bench.pipeline = slow
        processor = Processor(slow, bench.state)
        bench.runner = Runner(processor, bench.compute, bench.settings, bench.telemetry)
        slow.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await _until(slow.inferring.is_set)
            await bench.revoke(0)
            restored = bench.state.store(0)  # as a restore makes it, and goes on filling it in another thread
            slow.go.set()
            await _until(lambda: bench.metric("headrace_records_discarded_total") == 1)
            assert len(restored) == 0, "the compute thread changed a store that a restore may be filling"

    _run(scenario)


def test_after_a_rebalance_deliveries_flow_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await _until(lambda: bench.mark() == 1)
            await bench.revoke(0)
            assert bench.mark() is None
            await bench.deliver([b"x"], 1)
            await _until(lambda: bench.mark() == 2)

    _run(scenario)


def test_a_message_from_before_a_rebalance_is_dropped_wherever_it_waits() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=2, max_queue_size=2))
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await _until(bench.pipeline.inferring.is_set)
            await bench.deliver([b"x", b"x"], 1)  # fills the queue
            held = bench.consumer.deliver(batch([b"x"], start=3))
            offer = asyncio.create_task(bench.runner.offer(held, bench.consumer))  # waits for room
            unoffered = bench.consumer.deliver(batch([b"x"], start=4))
            await asyncio.sleep(0.02)
            assert not offer.done()
            await bench.revoke(0)
            await asyncio.wait_for(offer, LONG_S)
            await bench.runner.offer(unoffered, bench.consumer)
            bench.pipeline.go.set()
            await bench.deliver([b"x"], 100)
            await _until(lambda: bench.mark() == 101)
            assert bench.offsets() == [100]

    _run(scenario)


def test_the_queue_holds_deliveries_back_while_the_model_is_slow() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=4, max_queue_size=8))
        bench.pipeline.go.clear()
        async with bench.running():
            accepted = 0

            async def feed() -> None:
                nonlocal accepted
                for number in range(50):
                    await bench.deliver([b"x"] * 4, 4 * number)
                    accepted += 1

            feeding = asyncio.create_task(feed())
            await _until(bench.pipeline.inferring.is_set)
            await asyncio.sleep(0.05)
            assert accepted <= 4
            bench.pipeline.go.set()
            await asyncio.wait_for(feeding, LONG_S)
            await _until(lambda: bench.mark() == 200)

    _run(scenario)


def test_a_slow_broker_holds_computing_back_too() -> None:
    async def scenario() -> None:
        bench = Bench(
            acknowledge=False,
            batch=Batch(max_batch_size=1, max_queue_size=4),
            worker=Worker(in_flight=3, drain_timeout_s=0.2),
        )
        async with bench.running():
            feeding = asyncio.create_task(_feed(bench, 40))
            await asyncio.sleep(0.1)
            assert len(bench.offsets()) <= 3
            bench.log.acknowledge = True
            bench.log.release()
            await asyncio.wait_for(feeding, LONG_S)
            await _until(lambda: bench.mark() == 40)

    _run(scenario)


async def _feed(bench: Bench, count: int) -> None:
    for number in range(count):
        await bench.deliver([b"x"], number)


async def _failure(task: asyncio.Task[None]) -> BaseException:
    await asyncio.wait({task}, timeout=LONG_S)
    assert task.done(), "the runner did not end"
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error is not None
    return error


def test_a_write_that_is_refused_ends_the_runner_and_leaves_the_input_uncommitted() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.fail = KafkaTimeoutError("no answer")
        async with bench.running() as task:
            await bench.deliver([b"x"], 0)
            error = await _failure(task)
            assert isinstance(error, ProduceError)
            assert "counts[0]" in str(error)
            assert bench.mark() is None
            await asyncio.wait_for(bench.runner.drain(), 1.0)  # nobody is left to wait for

    _run(scenario)


@pytest.mark.parametrize(
    ("values", "error"), [([b"poison"] * 50, DeadLetterLimit), ([b"bad:infer"] * 50, ModelFailing)]
)
def test_a_pipeline_that_must_not_go_on_ends_the_runner_and_commits_nothing_of_the_batch(
    values: list[bytes], error: type[Exception]
) -> None:
    async def scenario() -> None:
        bench = Bench(dead_letter=DeadLetter(max_consecutive=20))
        async with bench.running() as task:
            await bench.deliver([b"x"], 0)
            await _until(lambda: bench.mark() == 1)
            await bench.deliver(values, 1)
            assert isinstance(await _failure(task), error)
            assert bench.mark() == 1
            assert bench.offsets() == [0]

    _run(scenario)


@pytest.mark.parametrize("delay_s", [0.0, 5.0])
def test_an_error_ends_the_runner_however_new_deliveries_come_in(delay_s: float) -> None:
    async def scenario() -> None:
        for _ in range(20):
            bench = Bench(batch=Batch(max_batch_size=4, max_queue_delay_s=delay_s))
            bench.log.blocked = asyncio.Event()
            bench.log.fail = KafkaTimeoutError("no answer")
            async with bench.running() as task:
                await bench.deliver([b"x"] * 4, 0)
                await bench.deliver([b"x"], 4)
                await _until(lambda bench=bench: bench.metric("headrace_batch_records_count") >= 1)  # type: ignore[misc]
                await asyncio.sleep(0.002)
                bench.log.blocked.set()
                for offset in range(5, 12):
                    message = bench.consumer.deliver(batch([b"x"], start=offset))
                    await bench.runner.offer(message, bench.consumer)
                    await asyncio.sleep(0)
                assert isinstance(await _failure(task), ProduceError)

    _run(scenario)
