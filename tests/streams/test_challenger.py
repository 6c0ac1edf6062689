"""A challenger sees what the champion has answered, and can neither delay nor fail it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.challenger import QUEUED, Challenger, chosen
from streams.emitter import Letters
from streams.processor import Processor
from streams.records import Outbox
from streams.schemas import Comparison
from streams.state import KeyedState
from streams.telemetry import Telemetry
from tests.counting import CountingPipeline, CountStore
from tests.streams.inmemory import batch
from tests.waiting import until

TOPIC = "counts.shadow"
LONG_S = 10.0


class Rival(CountingPipeline):
    """Counts twice as high, when it is let."""

    model = "counting/2"

    def __init__(self) -> None:
        super().__init__("events", "counts")
        self.begun, self.go, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.scale = 2.0

    def infer(self, features: Any) -> Any:
        self.begun.set()
        assert self.go.wait(LONG_S)
        if self.error is not None:
            raise self.error
        return (super().infer(features) * self.scale).astype(np.float32)

    def close(self) -> None:
        self.closed.set()


class Bench:
    def __init__(self, share: float) -> None:
        self.rival, self.telemetry, self.letters = Rival(), Telemetry("counting"), list[Letters]()
        pipeline = CountingPipeline("events", "counts")
        self.processor = Processor(pipeline, KeyedState("counts.changelog", CountStore))
        self.challenger = Challenger(self.rival, share, TOPIC, self.letters.append, self.telemetry, budget=1.0)
        self.processor.challenger = self.challenger
        self.start = 0

    def process(self, *values: bytes, keys: list[bytes] | None = None) -> Outbox:
        records = batch(list(values), keys=keys, start=self.start)
        self.start += len(values)
        return self.processor.process([records]).outboxes[0]

    def counted(self, outcome: str) -> float:
        return self.telemetry.value("headrace_challenger_records_total", outcome)

    def comparisons(self) -> list[Comparison]:
        found = []
        for letters in self.letters:
            for topic, encoded in letters.batches:
                assert topic == TOPIC
                parsed = MemoryRecords(bytes(encoded._build()))
                while parsed.has_next():
                    found += [msgspec.json.decode(each.value, type=Comparison) for each in parsed.next_batch()]
        return found


@pytest.fixture
def shadow() -> Iterator[Bench]:
    bench = Bench(0.0)
    yield bench
    bench.rival.go.set()
    bench.challenger.stop()


@pytest.fixture
def canary() -> Iterator[Bench]:
    bench = Bench(0.5)
    yield bench
    bench.challenger.stop()


def predictions(outbox: Outbox) -> dict[int, tuple[int, str]]:
    """Offset -> count and model."""
    found = {}
    for outgoing in outbox.outgoing:
        if outgoing.topic == "counts":
            for row, value in enumerate(outgoing.values):
                body = msgspec.json.decode(value or b"")
                headers = dict(outgoing.headers_of(row))
                assert headers["id"] == f"events/0/{body['offset']}".encode()
                found[body["offset"]] = body["count"], (headers["model"] or b"").decode()
    return found


def test_the_shadow_is_compared_and_answers_nobody(shadow: Bench) -> None:
    outbox = shadow.process(b"a", b"poison", b"b")
    assert {model for _, model in predictions(outbox).values()} == {"counting/1"}
    until(lambda: shadow.counted("compared") == 2, LONG_S, "two comparisons")
    assert shadow.comparisons() == [
        Comparison("events/0/0", "counting/1", "counting/2", 1.0, 2.0, False),
        Comparison("events/0/2", "counting/1", "counting/2", 2.0, 4.0, False),
    ]


def test_a_shadow_that_hangs_holds_nobody_up_and_what_it_misses_is_counted(shadow: Bench) -> None:
    shadow.rival.go.clear()
    shadow.process(b"first")
    assert shadow.rival.begun.wait(LONG_S)
    for _ in range(QUEUED + 3):
        assert len(predictions(shadow.process(b"a", b"b"))) == 2
    assert shadow.counted("dropped") == 3 * 2
    shadow.rival.go.set()
    until(lambda: shadow.counted("compared") == 1 + 2 * QUEUED, LONG_S, "the comparisons that were queued")


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_shadow_that_fails_is_counted_and_goes_on(shadow: Bench, scale: float) -> None:
    shadow.rival.scale = scale
    assert len(predictions(shadow.process(b"a"))) == 1
    until(lambda: shadow.counted("failed") == 1, LONG_S, "a failure")
    shadow.rival.scale = 2.0
    shadow.process(b"b")
    until(lambda: shadow.counted("compared") == 1, LONG_S, "a comparison")


def test_a_canary_answers_for_its_keys_and_for_no_others(canary: Bench) -> None:
    keys = [b"key-%d" % number for number in range(40)]
    mine = set(chosen(keys, 0.5).tolist())
    assert 5 < len(mine) < 35
    answers = predictions(canary.process(*keys, keys=keys))
    assert {offset for offset, (_, model) in answers.items() if model == "counting/2"} == mine
    assert all(count == (2 if offset in mine else 1) for offset, (count, _) in answers.items())
    assert canary.counted("answered") == len(mine)
    until(lambda: canary.counted("compared") == len(mine), LONG_S, "comparisons of what it has answered")
    assert all(each.answered for each in canary.comparisons())


def test_champion_and_canary_each_say_their_own_engine_and_reason(
    canary: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingPipeline, "engine_reason", "tensorrt: there is no plan")
    monkeypatch.setattr(Rival, "engine", "onnx-cuda")
    monkeypatch.setattr(Rival, "engine_reason", "tensorrt: GPU lost")
    keys = [b"key-%d" % number for number in range(40)]
    mine, said = set(chosen(keys, 0.5).tolist()), {}
    for outgoing in canary.process(*keys, keys=keys).outgoing:
        for row in range(len(outgoing)) if outgoing.topic == "counts" else ():
            headers = dict(outgoing.headers_of(row))
            said[outgoing.id_offsets[row]] = (headers["engine"], headers["engine-reason"])
    own, others = (b"onnx-cuda", b"tensorrt: GPU lost"), (b"python", b"tensorrt: there is no plan")
    assert said == {offset: own if offset in mine else others for offset in range(40)}


@pytest.mark.parametrize("failure", ["raises", "not finite", "too few"])
def test_a_canary_that_fails_leaves_the_champions_answers(canary: Bench, failure: str) -> None:
    keys = [b"key-%d" % number for number in range(40)]
    if failure == "raises":
        canary.rival.error = RuntimeError("out of memory")
    elif failure == "not finite":
        canary.rival.scale = np.nan
    else:
        canary.rival.infer = lambda features: np.zeros(1, np.float32)  # type: ignore[method-assign]
    answers = predictions(canary.process(*keys, keys=keys))
    assert answers == dict.fromkeys(range(40), (1, "counting/1"))
    assert canary.counted("failed") == len(chosen(keys, 0.5))


def test_its_engine_is_released_at_its_end(shadow: Bench) -> None:
    shadow.challenger.stop()
    assert shadow.rival.closed.wait(LONG_S)


def test_a_larger_share_holds_the_keys_of_a_smaller_one_and_is_as_large_as_asked() -> None:
    keys = [b"c%07d" % number for number in range(20_000)]
    shares = {share: set(chosen(keys, share).tolist()) for share in (0.01, 0.1, 0.5, 1.0)}
    for share, places in shares.items():
        assert len(places) / len(keys) == pytest.approx(share, rel=0.1)
    assert shares[0.01] < shares[0.1] < shares[0.5] < shares[1.0]
    assert not len(chosen([None, None], 1.0))
    assert chosen(keys[:100], 0.5).tolist() == chosen(keys[:100], 0.5).tolist()


def test_shares_are_independent_of_a_partition_by_the_same_hash() -> None:
    from zlib import crc32

    keys = [key for key in (b"c%07d" % number for number in range(20_000)) if crc32(key) % 8 == 3]
    assert len(chosen(keys, 0.1)) / len(keys) == pytest.approx(0.1, abs=0.03)
