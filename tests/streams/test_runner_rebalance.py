"""What a rebalance does to batches on their way: finished in time or discarded, and never half of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from streams.settings import Batch, Worker
from tests.streams.inmemory import batch
from tests.streams.runner_bench import LONG_S, Bench, Gated, run, until


def test_a_drain_lets_what_is_computed_finish_and_drops_what_waits() -> None:
    async def scenario() -> None:
        bench = Bench(worker=Worker(drain_timeout_s=LONG_S))
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await until(bench.pipeline.inferring.is_set)
            await bench.deliver([b"x"], 1)  # waits behind it
            drain = asyncio.create_task(bench.runner.drain())
            await asyncio.sleep(0.02)
            assert not drain.done()
            bench.pipeline.go.set()
            await asyncio.wait_for(drain, LONG_S)
            assert (bench.mark(), bench.offsets()) == (1, [0])

    run(scenario)


def test_a_drain_is_bounded_and_what_comes_late_is_neither_produced_nor_acknowledged() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"] * 3, 0)
            await until(bench.pipeline.inferring.is_set)
            started = time.monotonic()
            await bench.revoke(0)
            assert time.monotonic() - started < 5.0
            bench.pipeline.go.set()
            await until(lambda: bench.metric("headrace_records_discarded_total") == 3)
            assert bench.log.records == []
            assert bench.mark() is None
            # The partition comes back, and the same records are delivered again.
            await bench.deliver([b"x"] * 3, 0)
            await until(lambda: bench.mark() == 3)
            assert bench.offsets() == [0, 1, 2]

    run(scenario)


def test_the_state_of_a_revoked_partition_that_was_still_busy_is_read_back_and_others_are_kept() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            await bench.deliver([b"x"], 0, partition=1)
            await until(lambda: bench.mark(1) == 1)
            kept = bench.state.store(1)
            bench.pipeline.inferring.clear()
            bench.pipeline.go.clear()
            await bench.deliver([b"x"], 0, partition=0)
            await until(bench.pipeline.inferring.is_set)
            ahead = bench.state.store(0)
            await bench.revoke(0, 1)
            assert bench.state.store(0) is not ahead
            assert len(bench.state.store(0)) == 0
            assert bench.state.store(1) is kept

    run(scenario)


def test_a_late_batch_does_not_touch_the_state_that_was_restored_meanwhile() -> None:
    class SlowDecode(Gated):
        def decode(self, batch: Any) -> Any:
            self.inferring.set()
            self.go.wait(LONG_S)
            return super().decode(batch)

    async def scenario() -> None:
        slow = SlowDecode()
        bench = Bench(pipeline=slow)
        slow.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await until(slow.inferring.is_set)
            await bench.revoke(0)
            restored = bench.state.store(0)  # as a restore makes it, and goes on filling it in another thread
            slow.go.set()
            await until(lambda: bench.metric("headrace_records_discarded_total") == 1)
            assert len(restored) == 0, "the compute thread changed a store that a restore may be filling"

    run(scenario)


def test_after_a_rebalance_deliveries_flow_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await until(lambda: bench.mark() == 1)
            await bench.revoke(0)
            assert bench.mark() is None
            await bench.deliver([b"x"], 1)
            await until(lambda: bench.mark() == 2)

    run(scenario)


def test_a_message_from_before_a_rebalance_is_dropped_wherever_it_waits() -> None:
    async def scenario() -> None:
        bench = Bench(batch=Batch(max_batch_size=2, max_queue_size=2))
        bench.pipeline.go.clear()
        async with bench.running():
            await bench.deliver([b"x"], 0)
            await until(bench.pipeline.inferring.is_set)
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
            await until(lambda: bench.mark() == 101)
            assert bench.offsets() == [100]

    run(scenario)
