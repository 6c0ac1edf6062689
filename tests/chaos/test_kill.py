"""SIGKILL at random moments: nothing is lost, what is repeated was in flight and is recognisable, state is exact."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Thread

import pytest

from connectors.simulators.transactions import TransactionSettings, blocks
from models.fraud.history import CardHistory
from streams.pipelines.fraud.pipeline import FraudPipeline
from streams.processor import Processor
from streams.records import RecordBatch
from streams.settings import Fraud
from streams.state import KeyedState
from tests import verify
from tests.chaos import verdict
from tests.chaos.conftest import Options, Report
from tests.chaos.stage import Outcome
from tests.conftest import Kafka, MakeTopics
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

PARTITIONS = 8
DAY_MS = 86_400_000
RECORDS, SHORT_DOSES, LONG_DOSES = 100_000, 6, 50
COMMIT_INTERVAL_S = 0.3
# On top of the interval: a commit's own time, and a busy machine.
SLACK_S = 1.5
Row = tuple[int, bytes | None, bytes | None, verify.Headers]


@dataclass
class Kills:
    """What stood on the broker after each kill."""

    servers: str
    group: str
    source: str
    output: str
    at_ms: list[float] = field(default_factory=list)
    committed: list[dict[int, int]] = field(default_factory=list)
    written: list[dict[int, int]] = field(default_factory=list)

    def kill(self, worker: WorkerProcess) -> None:
        worker.kill()
        self.at_ms.append(time.time() * 1000)
        done, ends = verify.at_rest(
            lambda: (
                verify.committed(self.servers, self.group, self.source),
                verify.ends(self.servers, self.output),
            )
        )
        self.committed.append(done)
        self.written.append(ends)

    def lives(self, outputs: list[verify.Record]) -> Iterator[tuple[dict[int, int], list[verify.Record]]]:
        """For each life of the worker: the offsets that it began with, and what it wrote, in log order."""
        begun: list[dict[int, int]] = [dict.fromkeys(range(PARTITIONS), 0), *self.committed]
        lives: list[list[verify.Record]] = [[] for _ in begun]
        for record in outputs:
            lives[sum(ends[record.partition] <= record.offset for ends in self.written)].append(record)
        return zip(begun, lives, strict=True)

    def in_flight(self, outputs: list[verify.Record]) -> int:
        """Outputs that were written and not committed when their writer was killed: all that may be repeated."""
        lives = list(self.lives(outputs))[:-1]
        late = [
            (number, record)
            for number, (_, written) in enumerate(lives)
            for record in written
            if record.source(self.source)[1] >= self.committed[number][record.partition]
        ]
        for number, record in late:
            age_s = (self.at_ms[number] - record.timestamp_ms) / 1000
            assert age_s <= COMMIT_INTERVAL_S + SLACK_S, f"{record} was not committed for {age_s:.1f} s"
        return len(late)


def transactions(count: int) -> Iterator[Row]:
    """Simulated transactions of 49 days, so that the first cards' history has expired at the end."""
    made = itertools.chain.from_iterable(
        zip(*block.records(), strict=True) for block in blocks(TransactionSettings(customers=1_000, seed=3))
    )
    for key, value in itertools.islice(made, count):
        yield int(key[1:]) % PARTITIONS, key, value, []


def kill_while_it_flows(kills: Kills, start: Callable[[], WorkerProcess], rows: Iterator[Row], times: int) -> None:
    """Each life gets its share of the records; three in four die in the midst of them, the fourth as it starts."""
    dice, share = random.Random(606), RECORDS // times
    for number in range(times):
        worker, starting = start(), number % 4 == 3
        worker.started() if starting else worker.running()
        flow = Thread(target=verify.send, args=(kills.servers, kills.source, itertools.islice(rows, share)))
        flow.start()
        time.sleep(dice.uniform(0, 1.0 if starting else 0.6))  # the moment of the kill
        kills.kill(worker)
        flow.join()


def finish(kills: Kills, worker: WorkerProcess) -> tuple[list[verify.Record], list[verify.Record]]:
    """Let the last life catch up and end; returns all inputs and outputs."""
    worker.running()
    until(lambda: not verify.behind(kills.servers, kills.group, kills.source), 60, "a commit of everything")
    assert worker.stop() == 0
    return verify.read(kills.servers, kills.source), verify.read(kills.servers, kills.output)


@pytest.mark.parametrize("guarantee", verdict.GUARANTEES)
def test_kills_of_the_fraud_worker(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, chaos: Options, report: Report, guarantee: str
) -> None:
    if guarantee not in chaos.guarantees:
        pytest.skip("another guarantee was asked for")
    servers, times, began = kafka.bootstrap_servers, LONG_DOSES if chaos.long else SHORT_DOSES, time.monotonic()
    source, output = make_topics("killed", "killed-flags", partitions=PARTITIONS)
    kills = Kills(servers, f"{source}-group", source, output)
    settings = {
        "fraud__input": source,
        "fraud__output": output,
        "batch__max_batch_size": 64,
        "worker__slot": "1",
        "worker__commit_interval_s": COMMIT_INTERVAL_S,
        "worker__processing_guarantee": guarantee,
    }

    kill_while_it_flows(kills, lambda: workers.fraud(kills.group, **settings), transactions(RECORDS), times)
    inputs, outputs = finish(kills, workers.fraud(kills.group, **settings))

    assert len(inputs) == RECORDS // times * times
    repeated = verify.assert_nothing_lost(inputs, outputs, source)
    if guarantee == verdict.EXACTLY_ONCE:
        assert repeated == 0
    else:
        assert 0 < repeated <= kills.in_flight(outputs)
    verify.assert_key_order(outputs, source)
    for begun, written in kills.lives(outputs):  # a life goes on exactly where the last one has committed
        assert [record.source(source) for record in sorted(written, key=lambda each: each.partition)] == [
            (partition, offset)
            for partition, ends in sorted(verify.counts_by_partition(written).items())
            for offset in range(begun[partition], begun[partition] + ends)
        ]
    expected, state = uninterrupted(inputs, source)
    for made in outputs:
        assert_same_flag(made.value, expected[made.source(source)])
    assert restored(servers, f"{kills.group}.changelog") == state
    assert state == recomputed(inputs)
    seconds = round(time.monotonic() - began, 1)
    report([Outcome("SIGKILL of the fraud worker", guarantee, 606, times, len(inputs), 0, repeated, 0, seconds)])


History = dict[int, dict[bytes, list[tuple[int, int, int]]]]


def uninterrupted(inputs: list[verify.Record], source: str) -> tuple[dict[tuple[int, int], bytes | None], History]:
    """Values by input, and the state, of one run without a broker that nobody disturbs."""
    pipeline, state = FraudPipeline(Fraud(input=source)), KeyedState("changelog", CardHistory)
    processor = Processor(pipeline, state)
    batches = list(_batches(inputs, source))
    for batch in batches:  # all partitions first: of what happened at a terminal a week ago, all is known in the stream
        pipeline.table.append(batch.partition, pipeline.decode(batch).columns)
    values: dict[tuple[int, int], bytes | None] = {}
    for batch in batches:
        (flags, *_) = processor.process([batch]).outboxes[0].outgoing
        values |= {(batch.partition, offset): value for offset, value in zip(batch.offsets, flags.values, strict=True)}
    pipeline.close()
    return values, {partition: store.snapshot() for partition, store in state.stores().items()}


def _batches(inputs: list[verify.Record], source: str) -> Iterator[RecordBatch]:
    for partition in range(PARTITIONS):
        records = [record for record in inputs if record.partition == partition]
        for start in range(0, len(records), 64):
            some = records[start : start + 64]
            yield RecordBatch(
                source,
                partition,
                [record.offset for record in some],
                [record.timestamp_ms for record in some],
                [record.key for record in some],
                [record.value for record in some],
                [[] for _ in some],
            )


def restored(servers: str, changelog: str) -> History:
    """The state that the next life would begin with."""
    stores: dict[int, CardHistory] = defaultdict(CardHistory)
    for partition, records in itertools.groupby(
        sorted(verify.read(servers, changelog), key=lambda each: each.partition), lambda each: each.partition
    ):
        found = list(records)
        stores[partition].merge([record.key or b"" for record in found], [record.value for record in found])
    return {partition: store.snapshot() for partition, store in stores.items()}


def recomputed(inputs: list[verify.Record]) -> History:
    """The same from the documented rule alone: what is younger than the 16th largest event time less 31 days."""
    state: History = {}
    for partition in range(PARTITIONS):
        events = [
            (record.offset, json.loads(record.value or b"")) for record in inputs if record.partition == partition
        ]
        horizon = sorted((event["event_time"] for _, event in events), reverse=True)[15] - 31 * DAY_MS
        cards: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
        for offset, event in events:
            if event["event_time"] > horizon:
                row = (offset, event["event_time"], round(event["amount"] * 1_000_000))
                cards[event["card_id"].encode()].append(row)
        state[partition] = dict(cards)
    return state


def assert_same_flag(got: bytes | None, expected: bytes | None) -> None:
    """The same prediction; the last digit of a float may depend on the size of the batch that a network ran over."""
    if got == expected:
        return
    one, other = json.loads(got or b"null"), json.loads(expected or b"null")
    assert one.pop("score") == pytest.approx(other.pop("score"), abs=2e-6)
    mine, others = one.pop("reasons"), other.pop("reasons")
    assert [reason["feature"] for reason in mine] == [reason["feature"] for reason in others]
    for a, b in zip(mine, others, strict=True):
        assert a["text"] == b["text"]
        assert a["contribution"] == pytest.approx(b["contribution"], abs=2e-4)
    assert one == other
