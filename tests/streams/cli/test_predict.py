from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.simulators.transactions import TransactionBlock, TransactionSettings, blocks
from models import repository
from models.fraud.recorded import recorded_inputs
from models.fraud.transactions import Ids, Transactions
from models.repository import Repository
from tests.streams.cli.conftest import run


@pytest.fixture(scope="module")
def block() -> TransactionBlock:
    return next(blocks(TransactionSettings(seed=5, customers=200)))


@pytest.fixture
def events(block: TransactionBlock, tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(block.records()[1]) + b"\n")
    return path


def flags(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("batch", ["7", "2048"])
def test_predictions_are_those_of_the_features_computed_offline(
    block: TransactionBlock, events: Path, batch: str
) -> None:
    outcome = run("predict", "fraud", "--from", events, BATCH__MAX_BATCH_SIZE=batch)
    assert f"{len(block)} events" in outcome.err.replace(",", "")
    found = flags(outcome.out)
    recorded = Transactions(
        [b"t%09d" % number for number in block.transaction_id.tolist()],
        block.event_time_ms,
        Ids.of(block.records()[0]),
        Ids.of([b"m%07d" % number for number in block.terminal.tolist()]),
        block.amount,
        np.zeros(len(block), np.bool_),
    )
    features = recorded_inputs(recorded).astype(np.float32)
    engine = repository.open_engine(Repository().load("fraud"))
    scores = engine.infer({"features": features})["score"]
    engine.close()
    assert [flag["transaction_id"] for flag in found] == [f"t{n:09d}" for n in block.transaction_id]
    np.testing.assert_allclose([flag["score"] for flag in found], scores, atol=2e-6)


@pytest.mark.parametrize("spelt", ["as it is", "another way", "as a link"])
def test_a_file_that_is_read_is_not_written(events: Path, tmp_path: Path, spelt: str) -> None:
    content = events.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(events)
    output = {"as it is": events, "another way": tmp_path / "." / ".." / tmp_path.name / events.name, "as a link": link}
    outcome = run("predict", "fraud", "--from", events, "--output", output[spelt], code=2)
    assert "--from and --output are the same file" in outcome.err
    assert events.read_bytes() == content


def test_labels_from_a_file_count_from_their_time_on(tmp_path: Path) -> None:
    day_ms, start_ms = 86_400_000, 1_735_689_600_000
    names = ("transaction_id", "card_id", "terminal_id", "amount", "event_time")
    rows = [(f"t{day}", f"c{day % 3}", "m1", 20.0, start_ms + day * day_ms) for day in range(30)]
    events, labels = tmp_path / "events.jsonl", tmp_path / "labels.csv"
    events.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    known = [(row[0], row[1], "m1", "true", row[4], row[4] + 10 * day_ms) for row in rows[:5]]
    header = "transaction_id,card_id,terminal_id,fraud,event_time,label_time"
    labels.write_text("\n".join([header, *(",".join(map(str, row)) for row in known)]) + "\n")
    said = run("predict", "fraud", "--from", events, "--labels", labels, FRAUD__INCLUDE_FEATURES="true").out
    found = [flag["features"] for flag in flags(said)]
    for day, features in enumerate(found):
        seen = max(0, day - 7 + 1)
        frauds = sum(each + 10 <= day for each in range(min(5, seen)))
        assert features["terminal_count_30d"] == seen
        assert features["terminal_fraud_share_30d"] == pytest.approx(frauds / seen if seen else 0)
    assert "No such option: --labels" in run("predict", "labels", "--from", events, "--labels", labels, code=2).err


def test_labels_that_are_left_out_are_counted_and_can_be_looked_into(events: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    header = "transaction_id,card_id,terminal_id,fraud,event_time,label_time"
    times = [1_736_689_600_000, 1_734_689_600_000, 99_735_689_600_000]  # the second before its event, then a future one
    rows = [f"t{at},c1,m1,true,1735689600000,{time}" for at, time in enumerate(times)]
    labels.write_text("\n".join([header, *rows, "t9,c1,m1,maybe,1735689600000,1736689600000"]) + "\n")
    asked = ("predict", "fraud", "--from", events, "--labels", labels, "--bad-rows", "skip")
    said = run(*asked).err
    assert f"2 of 3 labels left out: `headrace predict labels --from {labels}` says why" in said
    assert "1 bad rows left out, the first:" in said
    run(*asked, "--strict", code=1)
    why = run("predict", "labels", "--from", labels, "--bad-rows", "skip").err.splitlines()
    assert [json.loads(line)["row"] for line in why[:-1]] == [3, 4]
    labels.write_text("\n".join([header, rows[0]]) + "\n")
    assert "left out" not in run(*asked, "--strict").err


def test_a_csv_file_gives_the_same(block: TransactionBlock, events: Path, tmp_path: Path) -> None:
    rows = [json.loads(value) for value in block.records()[1]]
    csv, output = tmp_path / "events.csv", tmp_path / "flags.jsonl"
    header = "id,PAN,terminal_id,amount,event_time"
    csv.write_text("\n".join([header, *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    mapping = ("--map", "transaction_id=id", "--map", "card_id=PAN")
    assert run("predict", "fraud", "--from", csv, *mapping, "--output", output).out == ""
    assert output.read_text() == run("predict", "fraud", "--from", events).out


def test_dead_letters_are_reported_with_their_row(block: TransactionBlock, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = block.records()[1][:3]
    path.write_bytes(b"\n".join([good[0], b"", b"nope", good[1], b'{"card_id":"c1","amount":-1}', good[2]]))
    outcome = run("predict", "fraud", "--from", path)
    assert [flag["transaction_id"] for flag in flags(outcome.out)] == ["t000000001", "t000000002", "t000000003"]
    first, second = map(json.loads, outcome.err.splitlines()[:2])
    assert (first["row"], first["stage"], first["value_base64"]) == (3, "decode", "bm9wZQ==")
    assert (second["row"], second["value"]) == (5, {"card_id": "c1", "amount": -1})
    assert "amount" in second["message"]
    assert "dead letters: 2 at decode" in outcome.err
    run("predict", "fraud", "--from", path, "--strict", code=1)


def test_mistakes_are_sentences(events: Path, tmp_path: Path) -> None:
    assert "there is no such file" in run("predict", "fraud", "--from", tmp_path / "no.jsonl", code=1).error
    unwritable = run("predict", "fraud", "--from", events, "--output", tmp_path / "no" / "out", code=1)
    assert "writing predictions to" in unwritable.error
    assert "'fraud'" in run("predict", "weather", "--from", events, code=2).err
    missing = run("predict", "fraud", "--from", events, code=1, FRAUD__MODEL="nothing")
    assert "\n" not in missing.error
