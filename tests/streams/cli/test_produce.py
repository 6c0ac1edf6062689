from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.simulators.transactions import TransactionSettings, blocks
from streams.errors import BrokerUnavailable, TopicError
from tests.conftest import MakeTopics
from tests.streams.cli.conftest import Run, run

ROWS = [
    {"id": "t1", "PAN": "4711", "shop": "m1", "euro": 10.5, "when": "2025-03-01T12:00:00Z"},
    {"id": "t2", "PAN": "4712", "shop": "m2", "euro": 3.0, "when": "2025-03-01T12:00:01Z"},
]
MAPPING = ("transaction_id=id", "card_id=PAN", "terminal_id=shop", "amount=euro", "event_time=when")
MAPS = tuple(word for pair in MAPPING for word in ("--map", pair))


def test_simulated_transactions_come_back_in_order(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("transactions", partitions=4)
    done = headrace("produce", "transactions", "--topic", topic, "--count", 5000, "--seed", 3)
    assert f"5,000 events to {topic}" in done.err
    found = headrace("subscribe", topic, "--from", "earliest", "--limit", 5000, "--format", "json").lines()
    keys, values = (next(blocks(TransactionSettings(seed=3))).records()[n][:5000] for n in (0, 1))
    assert {(each["key"], json.dumps(each["value"])) for each in found} == {
        (key.decode(), json.dumps(json.loads(value))) for key, value in zip(keys, values, strict=True)
    }
    assert {each["partition"] for each in found} == {0, 1, 2, 3}
    for number in range(4):
        ids = [each["value"]["transaction_id"] for each in found if each["partition"] == number]
        assert ids == sorted(ids)


def test_a_rate_is_kept(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("steady")
    started = time.monotonic()
    headrace("produce", "transactions", "--topic", topic, "--rate", 400, "--count", 601)
    assert time.monotonic() - started >= 1.5
    rows = headrace("subscribe", topic, "--from", "earliest", "--limit", 601, "--format", "json").lines()
    seconds = [row["timestamp"] for row in rows]
    assert len(set(seconds)) > 20  # spread over the time, not one burst


def test_the_simulation_ends_at_the_present(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("present")
    today = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    headrace("produce", "transactions", "--topic", topic, "--start", today, "--customers", 100)
    rows = headrace("subscribe", topic, "--from", "earliest", "--seconds", 1, "--format", "json").lines()
    assert len(rows) > 50
    assert max(row["value"]["event_time"] for row in rows) <= time.time() * 1000


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet"])
def test_foreign_files_are_mapped(headrace: Run, make_topics: MakeTopics, tmp_path: Path, ending: str) -> None:
    (topic,) = make_topics("foreign", partitions=2)
    path = tmp_path / f"payments.{ending}"
    csv = "\n".join([",".join(ROWS[0]), *(",".join(map(str, row.values())) for row in ROWS)]) + "\n"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        path.write_bytes(gzip.compress(csv.encode()) if ending.endswith("gz") else csv.encode())
    headrace("produce", "transactions", "--from", path, *MAPS, "--topic", topic)
    found = headrace("subscribe", topic, "--from", "earliest", "--limit", 2, "--format", "json").lines()
    assert {each["key"]: each["value"] for each in found} == {
        "4711": {"transaction_id": "t1", "card_id": "4711", "terminal_id": "m1", "amount": 10.5,
                 "event_time": 1740830400000},
        "4712": {"transaction_id": "t2", "card_id": "4712", "terminal_id": "m2", "amount": 3.0,
                 "event_time": 1740830401000},
    }  # fmt: skip


def test_a_bad_row_stops_or_is_left_out(headrace: Run, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("bad")
    path = tmp_path / "payments.csv"
    path.write_text("transaction_id,card_id,terminal_id,amount,event_time\nt1,c1,m1,many,0\nt2,c1,m1,1,0\n")
    stopped = headrace("produce", "transactions", "--from", path, "--topic", topic, code=1)
    assert "line 2" in stopped.error
    assert "0 events" in stopped.err
    skipped = headrace("produce", "transactions", "--from", path, "--topic", topic, "--bad-rows", "skip")
    assert "1 events" in skipped.err
    assert "1 bad rows left out" in skipped.err


def test_a_missing_topic_is_named_with_the_command_that_makes_it(headrace: Run, make_topics: MakeTopics) -> None:
    topic = make_topics("known")[0] + "-not"
    missing = headrace("produce", "transactions", "--topic", topic, "--count", 5, code=1)
    assert isinstance(missing.result.exception, TopicError)
    assert f"`headrace topics create {topic}`" in missing.error
    assert "5 events" in headrace("produce", "transactions", "--topic", topic, "--count", 5, "--create").err


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    assert "there is no such file" in run("produce", "transactions", "--from", tmp_path / "no.csv", code=1).error
    assert "expected FIELD=COLUMN" in run("produce", "transactions", "--from", "a.csv", "--map", "x", code=2).err
    assert "--from FILE" in run("produce", "transactions", "--map", "card_id=PAN", code=2).err
    assert "twice" in run("produce", "transactions", "--map", "a=b", "--map", "a=c", code=2).err
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    assert "map the file's names" in run("produce", "transactions", "--from", tmp_path / "a.csv", code=1).error


@pytest.mark.parametrize("command", [
    ("produce", "transactions", "--count", "1"), ("subscribe", "t"), ("topics", "create"), ("topics", "list"),
    ("topics", "lag"), ("topics", "delete", "t", "--yes"),
])  # fmt: skip
def test_a_broker_that_is_not_there_is_said_soon(command: tuple[str, ...]) -> None:
    started = time.monotonic()
    outcome = run(*command, code=1, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert time.monotonic() - started < 5
    assert isinstance(outcome.result.exception, BrokerUnavailable)
    assert "headrace broker start" in outcome.error
    assert "\n" not in outcome.error


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("command", [
    "produce transactions --rate", "produce transactions --seconds", "produce labels --delay-days",
    "produce video --fps", "subscribe t --seconds", "models promote fraud/2 --wait", "models promote fraud/2 --canary",
    "demo --rate", "demo --seconds",
])  # fmt: skip
def test_what_is_no_finite_number_is_refused(command: str, number: str) -> None:
    said = run(*command.split(), number, code=2).err
    assert f"expected a finite number, got '{number}'" in said or "is not in the range" in said


@pytest.mark.parametrize("kind", ["transactions", "labels"])
@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "9999-12-31"])
def test_a_simulation_begins_on_a_day_that_pipelines_take(kind: str, day: str) -> None:
    said = run("produce", kind, "--start", day, code=2).err
    assert f"expected a day from 2000-01-01 until today, got {day}" in said
