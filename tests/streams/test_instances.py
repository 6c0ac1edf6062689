"""Several micro-batches decoded and inferred at once: what follows from them keeps its order all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest
from numpy.typing import NDArray

from streams.errors import DeadLetterLimit, ModelFailing
from streams.freshness import PACE_RECORDS
from streams.pipeline import Opened
from streams.processor import Processor
from streams.runner import MOMENT_S, PATIENT_S, SETTLE_S
from streams.settings import Batch, DeadLetter, Worker
from streams.state import KeyedState
from tests.counting import CountStore
from tests.streams.concluding import OUT, Concluding
from tests.streams.inmemory import TOPIC, batch
from tests.streams.runner_bench import CHANGELOG, LONG_S, Bench, run, until


class Several(Concluding):
    """Two instances. A batch with `slow` in it is inferred until `go`; `together` is set where two are inferred."""

    def __init__(self) -> None:
        super().__init__(TOPIC, OUT)
        self.instances = 2
        self.freshness = None
        self.go, self.slow, self.together = threading.Event(), threading.Event(), threading.Event()
        self._inside, self._counting = 0, threading.Lock()
        self.began = 0

    def features(self, columns: Any, store: CountStore) -> NDArray[Any]:
        with self._counting:
            self.began += 1
        if b"slow" in columns.values:
            self.slow.set()
            self.go.wait(LONG_S)
        return super().features(columns, store)

    def infer(self, features: NDArray[Any]) -> NDArray[Any]:
        with self._counting:
            self._inside += 1
            if self._inside == 2 or self.slow.is_set():
                self.together.set()
        try:
            if (features == 2).any():
                raise RuntimeError("the model is broken")
            return super().infer(features)
        finally:
            with self._counting:
                self._inside -= 1


def _bench(pipeline: Several, **sections: Any) -> Bench:
    return Bench(pipeline=pipeline, **({"batch": Batch(max_batch_size=2)} | sections))


async def _occupy(bench: Bench, pipeline: Several, batches: int) -> None:
    """Until `go`, each instance has one of these batches, and the rest waits."""
    for start in range(0, 2 * batches, 2):
        await bench.deliver([b"slow", b"slow"], start)
    await until(lambda: pipeline.began == 2)


def test_a_slow_micro_batch_is_not_overtaken_by_the_next_that_is_inferred_beside_it() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline)
        async with bench.running():
            await bench.deliver([b"slow", b"x"], 0)
            await until(pipeline.slow.is_set)
            await bench.deliver([b"x", b"x"], 2)
            await until(pipeline.together.is_set)
            await asyncio.sleep(0.02)
            assert bench.values() == []
            pipeline.go.set()
            await until(lambda: bench.mark() == 4)
        assert bench.values() == [b"1", b"2", b"3", b"4"]

    run(scenario)


def test_idle_instances_share_what_waits() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline, batch=Batch(max_batch_size=100))
        for offset in range(4):
            await bench.deliver([b"x"], offset)
        async with bench.running():
            await until(lambda: bench.mark() == 4)
        assert bench.metric("headrace_batch_records_count") == 2
        assert bench.values() == [b"1", b"2", b"3", b"4"]

    run(scenario)


def test_no_more_are_begun_than_there_are_instances() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline)
        async with bench.running():
            await _occupy(bench, pipeline, 5)
            await asyncio.sleep(0.05)
            assert pipeline.began == 2
            pipeline.go.set()
            await until(lambda: bench.mark() == 10)
        assert bench.values() == [b"%d" % count for count in range(1, 11)]

    run(scenario)


def test_more_is_wanted_while_an_instance_is_idle_or_nothing_waits_for_the_next_one() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline)
        wanting = bench.runner.wanting
        async with bench.running():
            for number in range(2):
                assert wanting.is_set()
                await bench.deliver([b"slow", b"slow"], 2 * number)
                await until(partial(lambda begun: pipeline.began == begun, number + 1))
            assert wanting.is_set()
            await bench.deliver([b"x", b"x"], 4)
            assert not wanting.is_set()
            pipeline.go.set()
            await wanting.wait()
            await until(lambda: bench.mark() == 6)
            assert wanting.is_set()

    run(scenario)


def test_a_poll_waits_for_what_is_in_flight_where_several_instances_are_busy() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline)
        async with bench.running():
            assert bench.runner.patience_s == 0
            await _occupy(bench, pipeline, 2)
            await until(lambda: bench.runner.patience_s == PATIENT_S)
            pipeline.go.set()
            await until(lambda: bench.runner.patience_s == 0)

    async def lone() -> None:
        pipeline = Several()
        pipeline.instances = 1
        bench = _bench(pipeline)
        async with bench.running():
            await bench.deliver([b"slow", b"slow"], 0)
            await until(pipeline.slow.is_set)
            await asyncio.sleep(0.2)
            assert bench.runner.patience_s == SETTLE_S
            pipeline.go.set()
            await until(lambda: bench.mark() == 2)

    run(scenario)
    run(lone)


def test_what_is_drained_leaves_room_for_more() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline)
        async with bench.running():
            await _occupy(bench, pipeline, 3)
            assert not bench.runner.wanting.is_set()
            draining = asyncio.create_task(bench.runner.drain())
            await bench.runner.wanting.wait()
            pipeline.go.set()
            await draining

    run(scenario)


class Concluded(Several):
    """Nothing is concluded until `go`."""

    def conclude(self, *args: Any) -> None:
        self.go.wait(LONG_S)
        super().conclude(*args)


def test_while_one_is_finished_each_instance_begins_another_and_the_rest_waits() -> None:
    async def scenario() -> None:
        pipeline = Concluded()
        bench = _bench(pipeline, batch=Batch(max_batch_size=100))
        async with bench.running():
            for _ in range(4):
                begun = pipeline.began
                await bench.deliver([b"x"], begun)
                await until(partial(lambda before: pipeline.began > before, begun))
            for offset in range(4, 20):
                await bench.deliver([b"x"], offset)
                await asyncio.sleep(0.005)
            assert pipeline.began == 4
            pipeline.go.set()
            await until(lambda: bench.mark() == 20)
        assert bench.metric("headrace_batch_records_count") <= 4 + 5  # two that are idle share it: 8, 4, 2, 1, 1
        assert bench.values() == [b"%d" % count for count in range(1, 21)]

    run(scenario)


@pytest.mark.parametrize(("values", "error"), [([b"poison"] * 50, DeadLetterLimit), ([b"nan"] * 50, ModelFailing)])
def test_what_ends_the_runner_commits_what_came_before_and_nothing_that_was_begun_after(
    values: list[bytes], error: type[Exception]
) -> None:
    async def scenario() -> None:
        pipeline = Several()
        limits = DeadLetter(max_consecutive=20)
        bench = _bench(pipeline, dead_letter=limits, worker=Worker(drain_timeout_s=4 * LONG_S))
        async with bench.running() as task:
            await bench.deliver([b"slow"], 0)
            await until(pipeline.slow.is_set)
            await bench.deliver(values, 1)
            await bench.deliver([b"x"] * 2, 51)
            pipeline.go.set()
            await asyncio.wait({task}, timeout=LONG_S)
            assert task.done(), "the runner waits for what it has given up"
            found = task.exception()
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            assert isinstance(found, error)
        assert bench.values() == [b"1"]
        assert bench.mark() == 1

    run(scenario)


def test_a_drain_waits_for_all_that_was_begun() -> None:
    async def scenario() -> None:
        pipeline = Several()
        bench = _bench(pipeline, worker=Worker(drain_timeout_s=LONG_S))
        async with bench.running():
            await bench.deliver([b"slow", b"x"], 0)
            await bench.deliver([b"slow", b"x"], 2)
            await until(lambda: pipeline.began == 2)
            draining = asyncio.create_task(bench.runner.drain())
            await asyncio.sleep(0.02)
            assert not draining.done()
            pipeline.go.set()
            await asyncio.wait_for(draining, LONG_S)
            assert bench.mark() == 4

    run(scenario)


class Followed(Several):
    """Says in which threads it has concluded; a `long` one takes its time of a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.on_loop: list[bool] = []

    def conclude(self, columns: Any, *args: Any) -> None:
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        if b"long" in columns.values:
            end = time.thread_time() + 1.1 * PACE_RECORDS * MOMENT_S
            while time.thread_time() < end:
                pass
        super().conclude(columns, *args)


def test_what_takes_a_moment_is_finished_on_the_event_loop_and_all_else_beside_it() -> None:
    async def scenario() -> None:
        pipeline = Followed()
        bench = _bench(pipeline)

        async def conclude(value: bytes) -> bool:
            done = len(pipeline.on_loop)
            await bench.deliver([value], done)
            await until(lambda: bench.mark() == done + 1)
            return pipeline.on_loop[-1]

        async with bench.running():
            assert not await conclude(b"x"), "nothing is known of the first"
            while not await conclude(b"x"):
                assert len(pipeline.on_loop) < PACE_RECORDS
            await conclude(b"long")
            assert not await conclude(b"x"), "what took long of late may again"
            assert not await conclude(b"x")
        assert bench.values() == [b"%d" % count for count in range(1, len(pipeline.on_loop) + 1)]

    run(scenario)


class _Version(Concluding):
    """A served version that is apart from its pipeline."""

    def __init__(self, model: str) -> None:
        super().__init__(TOPIC, OUT)
        self.model = model
        self.inferring, self.go, self.closed = threading.Event(), threading.Event(), False

    def infer(self, features: NDArray[Any]) -> NDArray[Any]:
        self.inferring.set()
        self.go.wait(LONG_S)
        return super().infer(features)

    def close(self) -> None:
        self.closed = True


class _Swapped(Concluding):
    served: Opened[Any] = None  # type: ignore[assignment]


def test_a_version_is_exchanged_between_two_micro_batches_and_closed_after_its_last() -> None:
    pipeline, first, second = _Swapped(TOPIC, OUT), _Version("counting/1"), _Version("counting/2")
    pipeline.served = first
    processor = Processor(pipeline, KeyedState(CHANGELOG, CountStore))
    begun: list[Any] = []
    beginning = threading.Thread(target=lambda: begun.append(processor.begin([batch([b"x"])])), daemon=True)
    beginning.start()
    assert first.inferring.wait(LONG_S)
    exchanging = threading.Thread(target=processor.exchange, args=(second,), daemon=True)
    exchanging.start()
    exchanging.join(0.05)
    assert exchanging.is_alive()
    assert pipeline.served is first
    first.go.set()
    for thread in (exchanging, beginning):
        thread.join(LONG_S)
    assert pipeline.served is second
    assert not first.closed, "what it has inferred is not written yet"
    assert not processor.steady
    (outbox,) = processor.finish(begun[0]).outboxes
    headers = {dict(each.headers_of(0)).get("model") for each in outbox.outgoing if each.topic == OUT}
    assert headers == {b"counting/1"}, "the version that has inferred it says so"
    assert first.closed
    assert processor.steady


def test_what_waits_for_an_exchange_keeps_out_of_what_is_restored_meanwhile() -> None:
    pipeline, first, second = _Swapped(TOPIC, OUT), _Version("counting/1"), _Version("counting/2")
    pipeline.served = first
    second.go.set()
    asked, begun = threading.Event(), list[Any]()

    def new_store() -> CountStore:
        asked.set()
        return CountStore()

    state = KeyedState(CHANGELOG, new_store)
    processor = Processor(pipeline, state)

    def start(call: Any, *args: Any) -> threading.Thread:
        thread = threading.Thread(target=lambda: begun.append(call(*args)), daemon=True)
        thread.start()
        return thread

    threads = [start(processor.begin, [batch([b"x"], partition=1)])]
    assert first.inferring.wait(LONG_S)
    threads.append(start(processor.exchange, second))
    threads[-1].join(0.05)
    asked.clear()
    threads.append(start(processor.begin, [batch([b"x"])]))  # behind the exchange
    asked.wait(0.5)
    state.discard(0)  # revoked while it waits
    restored = state.store(0)
    first.go.set()
    for thread in threads:
        thread.join(LONG_S)
    for each in begun:
        if each is not None:
            processor.finish(each)
    assert len(state.store(1)) == 1
    assert len(restored) == 0


def test_a_version_that_nothing_waits_for_is_closed_at_once() -> None:
    pipeline, first, second = _Swapped(TOPIC, OUT), _Version("counting/1"), _Version("counting/2")
    pipeline.served = first
    first.go.set()
    processor = Processor(pipeline, KeyedState(CHANGELOG, CountStore))
    processor.process([batch([b"x"])])
    processor.exchange(second)
    assert first.closed
    assert not second.closed
