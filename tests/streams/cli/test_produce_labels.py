from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.simulators.transactions import TransactionBlock, TransactionSettings, blocks
from tests.conftest import MakeTopics
from tests.streams.cli.conftest import Run, run

DAY_MS = 86_400_000
ROWS: list[dict[str, Any]] = [
    {"id": "t1", "PAN": "4711", "shop": "m1", "chargeback": 1, "paid": "2025-03-01T12:00:00Z",
     "label_time": "2025-03-09T08:00:00Z"},
    {"id": "t2", "PAN": "4712", "shop": "m2", "chargeback": 0, "paid": "2025-03-01T12:00:01Z",
     "label_time": "2025-03-02T08:00:00Z"},
]  # fmt: skip
MAPPING = ("transaction_id=id", "card_id=PAN", "terminal_id=shop", "fraud=chargeback", "event_time=paid")
MAPS = tuple(word for pair in MAPPING for word in ("--map", pair))


def read(headrace: Run, topic: str, count: int) -> list[dict[str, Any]]:
    return headrace("subscribe", topic, "--from", "earliest", "--limit", count, "--format", "json").lines()


def frauds(block: TransactionBlock) -> dict[str, dict[str, Any]]:
    events = [json.loads(value) for value in block.records()[1]]
    return {event["transaction_id"]: event for event, fraud in zip(events, block.fraud.tolist(), strict=True) if fraud}


def test_labels_are_those_of_the_same_seed_customers_and_start(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("labels", partitions=4)
    simulator = ("--seed", 3, "--customers", 4000, "--start", "2025-02-01")
    done = headrace("produce", "labels", "--topic", topic, "--count", 60, *simulator)
    assert f"60 events to {topic}" in done.err
    found = read(headrace, topic, 60)
    settings = TransactionSettings(seed=3, customers=4000, start=datetime(2025, 2, 1, tzinfo=UTC))
    expected = frauds(next(blocks(settings)))
    assert len(expected) >= 60
    for each in found:
        event = expected[each["value"]["transaction_id"]]
        assert each["value"] == event | {"fraud": True, "label_time": event["event_time"] + 7 * DAY_MS}
        assert each["key"] == event["card_id"]
    for number in range(4):
        times = [each["value"]["label_time"] for each in found if each["partition"] == number]
        assert times == sorted(times)
    assert {each["partition"] for each in found} == {0, 1, 2, 3}


def test_genuine_transactions_are_labelled_on_demand(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("analysts")
    headrace("produce", "labels", "--topic", topic, "--count", 500, "--genuine", "--delay-days", 0.5)
    values = [each["value"] for each in read(headrace, topic, 500)]
    assert [value["transaction_id"] for value in values] == [f"t{number:09d}" for number in range(1, 501)]
    assert {value["label_time"] - value["event_time"] for value in values} == {DAY_MS // 2}
    assert {value["fraud"] for value in values} == {True, False}


def test_the_simulation_ends_when_label_time_reaches_the_present(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("present")
    start = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86400))
    more = ("--start", start, "--customers", 100, "--genuine", "--delay-days", 1)
    headrace("produce", "labels", "--topic", topic, *more)
    rows = headrace("subscribe", topic, "--from", "earliest", "--seconds", 1, "--format", "json").lines()
    latest = max(row["value"]["label_time"] for row in rows)
    assert time.time() * 1000 - DAY_MS < latest <= time.time() * 1000


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet"])
def test_foreign_files_are_mapped(headrace: Run, make_topics: MakeTopics, tmp_path: Path, ending: str) -> None:
    (topic,) = make_topics("foreign", partitions=2)
    path = tmp_path / f"chargebacks.{ending}"
    csv = "\n".join([",".join(ROWS[0]), *(",".join(map(str, row.values())) for row in ROWS)]) + "\n"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        path.write_bytes(gzip.compress(csv.encode()) if ending.endswith("gz") else csv.encode())
    headrace("produce", "labels", "--from", path, *MAPS, "--topic", topic)
    assert {each["key"]: each["value"] for each in read(headrace, topic, 2)} == {
        "4711": {"transaction_id": "t1", "card_id": "4711", "terminal_id": "m1", "fraud": True,
                 "event_time": 1740830400000, "label_time": 1741507200000},
        "4712": {"transaction_id": "t2", "card_id": "4712", "terminal_id": "m2", "fraud": False,
                 "event_time": 1740830401000, "label_time": 1740902400000},
    }  # fmt: skip


def test_labels_go_to_the_label_loops_input(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("mine")
    assert f"3 events to {topic}" in headrace("produce", "labels", "--count", 3, LABELS__INPUT=topic).err


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    assert "there is no such file" in run("produce", "labels", "--from", tmp_path / "no.csv", code=1).error
    assert "--from FILE" in run("produce", "labels", "--map", "card_id=PAN", code=2).err
    assert "--delay-days" in run("produce", "labels", "--delay-days", "-1", code=2).err


def test_a_bad_row_stops_with_its_line(headrace: Run, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("bad")
    path = tmp_path / "a.csv"
    path.write_text("transaction_id,card_id,terminal_id,fraud,event_time,label_time\nt1,c1,m1,maybe,0,0\n")
    stopped = headrace("produce", "labels", "--from", path, "--topic", topic, code=1)
    assert "line 2: column `fraud`: expected true, false, 1 or 0, got 'maybe'" in stopped.error
