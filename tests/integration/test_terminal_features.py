"""The features of the stream, through a real Kafka, are those of the definition, for every transaction."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.broker import Broker
from connectors.simulators.transactions import DAY_MS, TransactionSettings, blocks
from models.fraud.inputs import PLAIN_FEATURES
from models.fraud.protocol import plain_features
from models.fraud.transactions import Ids, Transactions, read_transactions
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

PARTITIONS, DAYS, SEED = 4, 48, 5
WORLD = TransactionSettings(
    seed=SEED, customers=250, terminals=120, terminal_compromise_rate=0.003, card_theft_rate=0.002
)
Records = list[tuple[int, bytes, bytes, verify.Headers]]


@dataclass(frozen=True)
class World:
    """Simulated days, as they go over the wire, and as the definition takes them."""

    transactions: Transactions
    records: Records
    labels: Records


@pytest.fixture(scope="module")
def world() -> World:
    first_ms = int(WORLD.start.timestamp() * 1000)
    days = list(itertools.takewhile(lambda block: block.event_time_ms[-1] < first_ms + DAYS * DAY_MS, blocks(WORLD)))
    keys, values = ([each for block in days for each in block.records()[kind]] for kind in (0, 1))
    events = [json.loads(value) for value in values]
    transactions = Transactions(
        [event["transaction_id"].encode() for event in events],
        np.concatenate([block.event_time_ms for block in days]),
        Ids.of(keys),
        Ids.of([event["terminal_id"].encode() for event in events]),
        np.concatenate([block.amount for block in days]),
        np.concatenate([block.fraud for block in days]),
    )
    records = [(_partition(key), key, value, []) for key, value in zip(keys, values, strict=True)]
    return World(transactions, records, list(_labels(events, transactions.fraud)))


def _partition(key: bytes) -> int:
    return crc32(key) % PARTITIONS


def _labels(
    events: list[dict[str, object]], fraud: NDArray[np.bool_]
) -> Iterator[tuple[int, bytes, bytes, verify.Headers]]:
    """A week late and in their order; some come twice, some are put right later, some are none at all."""
    by_time = []
    for place, (event, truth) in enumerate(zip(events, fraud.tolist(), strict=True)):
        time = int(str(event["event_time"]))
        fields = {name: event[name] for name in ("transaction_id", "card_id", "terminal_id", "event_time")}
        by_time.append((time + 7 * DAY_MS, fields | {"fraud": truth}))
        if place % 5 == 0:  # what was thought first, and is put right
            by_time.append((time + DAY_MS, fields | {"fraud": not truth}))
        if place % 7 == 0:
            by_time.append((time + 7 * DAY_MS, fields | {"fraud": truth}))
        if place % 11 == 0:  # somebody else's card; and one that is known before it happened
            by_time.append((time + 2 * DAY_MS, fields | {"card_id": "c9999999", "fraud": not truth}))
            by_time.append((time - DAY_MS, fields | {"fraud": not truth}))
    for time, label in sorted(by_time, key=lambda each: each[0]):
        key = str(label["card_id"]).encode()
        yield _partition(key), key, json.dumps(label | {"label_time": time}).encode(), []


def _send_in_order(servers: str, topic: str, records: Records) -> None:
    """While workers run: two days at a time, since what is not in the topic yet cannot be waited for."""
    per_day = len(records) // DAYS + 1
    for start in range(0, len(records), 2 * per_day):
        verify.send(servers, topic, records[start : start + 2 * per_day])


def _settings(source: str, output: str, labels: str) -> dict[str, object]:
    topics = {"fraud__input": source, "fraud__output": output, "fraud__labels": labels}
    return topics | {"fraud__include_features": "true"}


def _expected(transactions: Transactions) -> dict[str, NDArray[np.float64]]:
    ids = [each.decode() for each in transactions.transaction_ids]
    return dict(zip(ids, plain_features(transactions), strict=True))


def _assert_exact(outputs: list[verify.Record], transactions: Transactions) -> None:
    flags = [json.loads(output.value or b"") for output in outputs]
    found = {flag["transaction_id"]: [flag["features"][name] for name in PLAIN_FEATURES] for flag in flags}
    expected = _expected(transactions)
    assert found.keys() == expected.keys()
    rows = np.array([found[each] for each in expected])
    np.testing.assert_allclose(rows, np.array(list(expected.values())), rtol=0, atol=1e-6)
    assert rows[:, PLAIN_FEATURES.index("terminal_fraud_share_30d")].max() > 0.2
    assert rows[:, PLAIN_FEATURES.index("terminal_count_30d")].max() > 20


def test_one_worker_replays_what_lies_there(
    world: World, kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("terminals", "terminals-out", "terminals-labels", partitions=PARTITIONS)
    verify.send(servers, labels, world.labels)
    verify.send(servers, source, world.records)
    worker = workers.fraud(f"{source}-group", **_settings(source, output, labels)).running()
    until(lambda: not verify.behind(servers, f"{source}-group", source), 120, "a commit of everything")
    assert worker.stop() == 0
    _assert_exact(verify.read(servers, output), world.transactions)


def test_workers_that_are_killed(world: World, kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("killed", "killed-out", "killed-labels", partitions=PARTITIONS)
    verify.send(servers, labels, world.labels)
    half = len(world.records) // 2
    verify.send(servers, source, world.records[:half])
    settings = _settings(source, output, labels) | {
        "worker__processing_guarantee": "exactly_once", "batch__max_batch_size": 64
    }  # fmt: skip
    first = workers.fraud(f"{source}-group", **settings).running()
    second = workers.fraud(f"{source}-group", **settings).running()
    until(lambda: len(verify.read(servers, output)) > half // 4, 60, "some of the outputs")
    first.kill()
    _send_in_order(servers, source, world.records[half:])
    until(lambda: len(verify.read(servers, output)) > 3 * half // 2, 60, "more of the outputs")
    third = workers.fraud(f"{source}-group", **settings).running()
    second.kill()
    until(lambda: not verify.behind(servers, f"{source}-group", source), 120, "a commit of everything")
    assert third.stop() == 0
    outputs = verify.read(servers, output)
    assert len(outputs) == len(world.records)
    _assert_exact(outputs, world.transactions)


def test_nobody_waits_for_a_worker_that_hangs(
    world: World, kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("hanging", "hanging-out", "hanging-labels", partitions=PARTITIONS)
    group, settings = f"{source}-group", _settings(source, output, labels) | {"worker__session_timeout_s": 60}
    verify.send(servers, labels, world.labels)
    first = workers.fraud(group, **settings).running()
    second = workers.fraud(group, **settings).running()
    until(lambda: first.metric("headrace_assigned_partitions") == PARTITIONS // 2, 30, "half of the partitions")
    second.suspend()
    _send_in_order(servers, source, world.records)
    until(lambda: len(verify.behind(servers, group, source)) == PARTITIONS // 2, 60, "the other half to be done")
    second.resume()
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")
    assert [worker.stop() for worker in (first, second)] == [0, 0]
    _assert_exact(verify.read(servers, output), world.transactions)


def test_a_broker_that_dies_and_comes_back(
    world: World, private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers
) -> None:
    broker = private_broker()
    broker.start()
    servers = broker.bootstrap_servers
    names = ("gone", "gone-out", "gone-labels")
    source, output, labels = make_topics(*names, partitions=PARTITIONS, kafka=broker)
    group, half = f"{source}-group", len(world.records) // 2
    verify.send(servers, labels, world.labels)
    verify.send(servers, source, world.records[:half])
    settings = _settings(source, output, labels) | {"worker__processing_guarantee": "exactly_once"}
    worker = workers.fraud(group, servers=servers, **settings).running()
    until(lambda: len(verify.read(servers, output)) > half // 2, 60, "some of the outputs")
    broker.kill()
    broker.start()
    _send_in_order(servers, source, world.records[half:])
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")
    assert worker.stop() == 0
    _assert_exact(verify.read(servers, output), world.transactions)


def test_a_log_that_is_none_of_ours_stops_the_worker(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output, labels = make_topics("foreign", "foreign-out", "foreign-labels")
    group, settings = f"{source}-group", _settings(source, output, labels)
    assert workers.fraud(group, **settings).running().stop() == 0
    verify.send(kafka.bootstrap_servers, f"{group}.table", [(0, None, b"tl\x07\x00something else", [])])
    worker = workers.fraud(group, **settings)
    assert worker.ended(30) == 1
    assert f"reading the table {group}.table[0]@0..0: decoding a ledger record: expected version 1" in worker.output()


RECORDED = Path(__file__).parents[2].parent / "shared/data/fraud/transactions_2018-04-01_2018-08-14.parquet"


@pytest.mark.skipif(not RECORDED.exists(), reason="needs the handbook's transactions in ../shared/data")
def test_four_and_a_half_recorded_months(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("recorded", "recorded-out", "recorded-labels", partitions=PARTITIONS)
    recorded = read_transactions([RECORDED])
    verify.send(servers, labels, _recorded_labels(recorded))
    verify.send(servers, source, _recorded_events(recorded))
    worker = workers.fraud(f"{source}-group", **_settings(source, output, labels)).running()
    until(lambda: not verify.behind(servers, f"{source}-group", source), 300, "a commit of everything")
    assert worker.stop() == 0

    place = {name: row for row, name in enumerate(recorded.transaction_ids)}
    found = np.full((len(place), len(PLAIN_FEATURES)), np.nan)
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for value in verify.values(servers, output):
        flag = decode(value)
        found[place[flag["transaction_id"].encode()]] = [flag["features"][name] for name in PLAIN_FEATURES]
    np.testing.assert_allclose(found, plain_features(recorded), rtol=0, atol=1e-6)


def _recorded_events(recorded: Transactions) -> Iterator[tuple[int, bytes, bytes, verify.Headers]]:
    columns = recorded.transaction_ids, recorded.cards.keys, recorded.terminals.keys
    numbers = recorded.amount.tolist(), recorded.event_time_ms.tolist()
    for name, card, terminal, amount, time in zip(*columns, *numbers, strict=True):
        ids = b'{"transaction_id":"%s","card_id":"%s","terminal_id":"%s"' % (name, card, terminal)
        yield _partition(card), card, ids + f',"amount":{amount},"event_time":{time}}}'.encode(), []


def _recorded_labels(recorded: Transactions) -> Iterator[tuple[int, bytes, bytes, verify.Headers]]:
    """Of frauds alone, as chargebacks are."""
    columns = recorded.transaction_ids, recorded.cards.keys, recorded.terminals.keys, recorded.event_time_ms.tolist()
    for name, card, terminal, time in itertools.compress(zip(*columns, strict=True), recorded.fraud.tolist()):
        ids = b'{"transaction_id":"%s","card_id":"%s","terminal_id":"%s"' % (name, card, terminal)
        times = f',"fraud":true,"event_time":{time},"label_time":{time + 7 * DAY_MS}}}'.encode()
        yield _partition(card), card, ids + times, []
