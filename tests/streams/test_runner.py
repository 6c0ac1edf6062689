"""From deliveries to acknowledgements: what is acknowledged when, in which order, and what ends the runner."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.errors import KafkaTimeoutError

from streams.errors import DeadLetterLimit, ModelFailing, ProduceError
from streams.runner import HANDED_OVER_FROM
from streams.settings import Batch, DeadLetter, Worker
from tests.streams.inmemory import batch
from tests.streams.runner_bench import CHANGELOG, LONG_S, Bench, run, until


def test_deliveries_become_outputs_and_changes_and_move_the_mark() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            for number in range(10):
                await bench.deliver([b"x"] * 5, 5 * number, number % 2)
            await until(lambda: (bench.mark(0), bench.mark(1)) == (45, 50))
        assert sorted(bench.offsets(0) + bench.offsets(1)) == list(range(50))
        assert len(bench.log.of(CHANGELOG)) >= 2
        assert bench.metric("headrace_records_in_total") == bench.metric("headrace_records_out_total") == 50

    run(scenario)


def test_nothing_is_acknowledged_before_the_broker_has_acknowledged_all_of_it() -> None:
    async def scenario() -> None:
        bench = Bench(acknowledge=False)
        async with bench.running():
            await bench.deliver([b"x", b"poison"], 0)
            await until(lambda: len(bench.log.records) == 3)  # the prediction, the dead letter, the change
            assert bench.mark() is None
            bench.log.release()
            await until(lambda: bench.mark() == 2)

    run(scenario)


def test_acknowledgements_out_of_order_do_not_pass_a_batch_in_flight() -> None:
    async def scenario() -> None:
        bench = Bench(acknowledge=False, batch=Batch(max_batch_size=1))
        async with bench.running():
            for offset in range(4):
                await bench.deliver([b"x"], offset)
            await until(lambda: len(bench.offsets()) == 4)
            held = bench.log._pending[:2]
            bench.log._pending = bench.log._pending[2:]
            bench.log.release(last_first=True)
            await asyncio.sleep(0.05)
            assert bench.mark() is None
            bench.log._pending = held
            bench.log.release()
            await until(lambda: bench.mark() == 4)

    run(scenario)


def test_outputs_of_a_partition_keep_the_order_of_its_input() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=16))
        async with bench.running():
            for number in range(60):
                await bench.deliver([b"x"] * 3, 3 * (number // 3), number % 3)
            await until(lambda: all(bench.mark(partition) == 60 for partition in range(3)))
        for partition in range(3):
            assert bench.offsets(partition) == list(range(60))

    run(scenario)


def test_the_event_loop_goes_on_while_the_model_computes() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await until(bench.pipeline.inferring.is_set)
            started = time.monotonic()
            await asyncio.sleep(0.01)
            assert time.monotonic() - started < 1.0

    run(scenario)


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
            await until(bench.pipeline.inferring.is_set)
            await asyncio.sleep(0.05)
            assert accepted <= 4
            bench.pipeline.go.set()
            await asyncio.wait_for(feeding, LONG_S)
            await until(lambda: bench.mark() == 200)

    run(scenario)


@pytest.mark.parametrize(("first", "in_the_works"), [(HANDED_OVER_FROM, 2), (HANDED_OVER_FROM - 1, 1)])
def test_what_waits_for_a_slow_model_comes_together_in_one_micro_batch(first: int, in_the_works: int) -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=1000))
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"] * first, 0)
            await until(bench.pipeline.inferring.is_set)
            for offset in range(first, first + 6):
                await bench.deliver([b"x"], offset)
                await asyncio.sleep(0.005)
            assert bench.pipeline.begun == in_the_works
            bench.pipeline.go.set()
            await until(lambda: bench.mark() == first + 6)
        assert bench.metric("headrace_batch_records_count") == in_the_works + 1
        assert bench.offsets() == list(range(first + 6))

    run(scenario)


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
            await until(lambda: bench.mark() == 40)

    run(scenario)


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

    run(scenario)


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
            await until(lambda: bench.mark() == 1)
            await bench.deliver(values, 1)
            assert isinstance(await _failure(task), error)
            assert bench.mark() == 1
            assert bench.offsets() == [0]

    run(scenario)


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
                await until(lambda bench=bench: bench.metric("headrace_batch_records_count") >= 1)  # type: ignore[misc]
                await asyncio.sleep(0.002)
                bench.log.blocked.set()
                for offset in range(5, 12):
                    message = bench.consumer.deliver(batch([b"x"], start=offset))
                    await bench.runner.offer(message, bench.consumer)
                    await asyncio.sleep(0)
                assert isinstance(await _failure(task), ProduceError)

    run(scenario)
