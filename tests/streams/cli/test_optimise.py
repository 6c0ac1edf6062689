from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

pytest.importorskip("onnx", reason="needs the extra `optimise`")

from models.engine import DerivationFailed, RepositoryUnusable, VariantRefused
from models.fraud.inputs import INPUTS
from models.fraud.recorded import recorded_inputs
from models.fraud.sample import FILLING_DAYS
from models.repository import ZOO, Repository
from streams.cli import samples
from streams.cli.simulated import Simulated, simulate
from tests.conftest import Kafka, MakeTopics
from tests.models import precision_networks as networks
from tests.streams.cli.conftest import Outcome, Run, run
from tests.streams.cli.test_subscribe import fill

SHARED = Path(__file__).parents[4] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with fraud/2 alone."""
    shutil.copytree(ZOO / "fraud" / "2", tmp_path / "models" / "fraud" / "2")
    return tmp_path / "models"


@pytest.fixture(scope="module")
def world() -> Simulated:
    return simulate(days=45, customers=300, seed=5)


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is simulated by default takes seconds; a hundredth of it does for the command's own tests."""
    monkeypatch.setattr(samples, "SIMULATED_DAYS", 45)
    monkeypatch.setattr(samples, "SIMULATED_CUSTOMERS", 300)


def records(world: Simulated) -> list[dict[str, Any]]:
    rows = world.transactions
    times = [datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in rows.event_time_ms.tolist()]
    return [
        {
            "transaction_id": transaction.decode(),
            "card_id": card.decode(),
            "terminal_id": terminal.decode(),
            "amount": amount,
            "event_time": time,
            "fraud": fraud,
        }
        for transaction, card, terminal, amount, time, fraud in zip(
            rows.transaction_ids, rows.cards.keys, rows.terminals.keys, rows.amount.tolist(), times,
            rows.fraud.tolist(), strict=True,
        )
    ]  # fmt: skip


def optimise(root: Path, *arguments: object, code: int = 0) -> Outcome:
    return run("models", "optimise", *arguments, "--root", root, "--json", "--max-loss", 1, code=code)


def test_a_variant_is_saved_as_the_next_version(root: Path) -> None:
    outcome = optimise(root, "fraud", "--precision", "fp16", "--keep-slower", "--rows", 300)
    (answer,) = outcome.lines()
    assert (answer["parent"], answer["saved"], answer["refused"]) == ("fraud/2", "fraud/3", [])
    golden, held_out = answer["comparisons"]
    assert (golden["rows"], golden["what"]) == (256, "golden batch")
    assert held_out["what"].startswith("simulated transactions, seed 1, 2025-02-")
    assert set(held_out["float32"]) == set(held_out["fp16"]) == {"average_precision", "roc_auc"}
    assert held_out["agreement"] > 0.99
    assert set(answer["speed_up"]) == {"1", "64", "1024"}
    saved = Repository([root]).load("fraud", 3)
    assert answer["bytes"] == len(saved.onnx_bytes())
    derived = saved.manifest.derived
    assert derived.parent == "fraud/2"
    assert derived.how == "headrace models optimise fraud/2 --precision fp16 --rows 300 --seed 1"
    assert derived.calibrated_on.startswith("300 rows of simulated transactions, seed 1, 2025-02-07 to 2025-02-")
    assert saved.manifest.quality["average_precision"] == round(held_out["fp16"]["average_precision"], 6)
    for shown in ("average precision", "same decision", "batch of 1,024", "size", "saved fraud/3"):
        assert shown in outcome.err
    # The next one is derived from the original again, and the same rows give the same network.
    again = optimise(root, "fraud", "--precision", "fp16", "--keep-slower", "--rows", 300).lines()[0]
    assert (again["parent"], again["saved"]) == ("fraud/2", "fraud/4")
    assert Repository([root]).load("fraud", 4).manifest.sha256 == saved.manifest.sha256


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_derived(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryUnusable, match="nothing was begun"):
        raise optimise(tmp_path / "file" / "models", "fraud", "--precision", "fp16", code=1).result.exception


def test_what_is_slower_here_is_not_kept_unless_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.precision import variant

    monkeypatch.setattr(variant, "LEAST_SPEED_UP", 1000.0)
    refused = optimise(root, "fraud", "--precision", "fp16", code=1)
    assert isinstance(refused.result.exception, VariantRefused)
    assert "it is not faster here" in refused.error
    assert refused.error.endswith("--keep-slower saves it for a machine where it is; nothing was written")
    (answer,) = refused.lines()
    assert answer["saved"] is None
    assert len(answer["refused"]) == 1
    assert "batch of 1,024" in refused.err
    assert Repository([root]).versions("fraud") == [2]
    assert optimise(root, "fraud", "--precision", "fp16", "--keep-slower").lines()[0]["saved"] == "fraud/3"


def test_what_loses_too_much_is_refused_even_if_slower_ones_are_kept(tmp_path: Path) -> None:
    networks.save(tmp_path / "models", networks.outlying())
    file = tmp_path / "rows.npz"
    np.savez(file, **networks.rows(600).tensors)
    arguments = ("scaling", "--precision", "int8", "--from", file, "--keep-slower")
    refused = optimise(tmp_path / "models", *arguments, code=1)
    assert "outputs are off by" in refused.error
    assert "on rows.npz" in refused.error
    assert refused.lines()[0]["saved"] is None
    assert Repository([tmp_path / "models"]).versions("scaling") == [1]


def test_rows_of_inputs_with_labels_are_judged_by_them(root: Path, tmp_path: Path) -> None:
    golden = Repository([root]).load("fraud").golden()
    scores = golden.outputs["score"]
    file = tmp_path / "rows.npz"
    np.savez(file, labels=scores > 0.5, **golden.inputs)
    answer = optimise(root, "fraud", "--precision", "fp16", "--from", file, "--keep-slower").lines()[0]
    held_out = answer["comparisons"][1]
    assert (held_out["rows"], held_out["what"]) == (128, "rows.npz")
    assert held_out["float32"] == pytest.approx({"average_precision": 1, "roc_auc": 1})
    assert answer["saved"] == "fraud/3"


def test_files_of_transactions_become_the_features_of_the_stream(world: Simulated, tmp_path: Path) -> None:
    """As JSON lines, CSV and Parquet; the Parquet file has the column names that training takes."""
    events = records(world)
    lines, table = tmp_path / "events.jsonl", tmp_path / "events.csv"
    lines.write_text("".join(json.dumps(event) + "\n" for event in events))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(events[0]))
        writer.writeheader()
        writer.writerows({**event, "fraud": int(event["fraud"])} for event in events)
    files = [lines, table]
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files.append(tmp_path / "events.parquet")
    parquet.write_table(pa.Table.from_pylist(events).drop(["event_time"]).append_column(
        "event_time", [world.transactions.event_time_ms]), files[-1])  # fmt: skip
    usable = world.transactions.day >= world.transactions.day[0] + FILLING_DAYS
    expected = recorded_inputs(world.transactions)[usable].astype(np.float32)
    middle = len(expected) // 2
    for file in files:
        sample = sample_of(file)
        np.testing.assert_array_equal(sample.held_out.tensors["features"], expected[middle:])
        np.testing.assert_array_equal(sample.held_out.labels, world.transactions.fraud[usable][middle:])
        assert len(sample.calibration) == 50
        assert sample.calibration.what.startswith(file.name)
        assert (sample.calibration.tensors["features"][:, None] == expected[None, :middle]).all(2).any(1).all()


def sample_of(file: Path) -> samples.Sample:
    return samples.from_file(file, {}, "stop", 50, Progress(disable=True))


def test_transactions_without_labels_are_judged_beside_simulated_ones(
    root: Path, world: Simulated, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event | {"fraud": None}) + "\n" for event in records(world)))
    answer = optimise(root, "fraud", "--precision", "fp16", "--from", file, "--keep-slower").lines()[0]
    _, own, simulated = answer["comparisons"]
    assert own["what"].startswith("events.jsonl")
    assert own["float32"] == {}
    assert own["agreement"] is not None
    assert simulated["what"].startswith("simulated transactions")
    assert simulated["float32"]["average_precision"] > 0.3
    assert "--from events.jsonl" in Repository([root]).load("fraud", 3).manifest.derived.how


def test_a_topic_of_transactions_or_of_flags_with_features(
    kafka: Kafka, make_topics: MakeTopics, headrace: Run, root: Path, world: Simulated
) -> None:
    transactions, flags, plain = make_topics("transactions", "flags", "plain")
    events = [{name: value for name, value in event.items() if name != "fraud"} for event in records(world)[-4000:]]
    fill(kafka, transactions, *((each["card_id"].encode(), json.dumps(each).encode(), 0, {}) for each in events))
    features = recorded_inputs(world.transactions)[-2000:]
    values = [json.dumps({"features": dict(zip(INPUTS, row, strict=True))}).encode() for row in features.tolist()]
    fill(kafka, flags, *((b"c", value, 0, {}) for value in values))
    fill(kafka, plain, (b"c", b'{"score":0.5}', 0, {}))
    command = ("models", "optimise", "fraud", "--precision", "fp16", "--keep-slower", "--root", root, "--json")
    command = (*command, "--max-loss", 1, "--from-topic")
    (answer,) = headrace(*command, transactions, FRAUD__INPUT=transactions).lines()
    assert answer["comparisons"][1]["what"].startswith(transactions)
    assert answer["comparisons"][1]["rows"] == 2000
    (answer,) = headrace(*command, flags).lines()
    assert answer["comparisons"][1]["what"] == f"flags of {flags}"
    assert answer["comparisons"][1]["rows"] == 1000
    refused = headrace(*command, plain, code=1)
    assert f"reading rows from {plain}[0]@0: expected a flag with `features`, got none" in refused.error
    assert "include_features = true" in refused.error


def test_mistakes_are_sentences(root: Path, tmp_path: Path) -> None:
    def error(*arguments: object) -> str:
        outcome = optimise(root, *arguments, code=1)
        assert isinstance(outcome.result.exception, Exception)
        assert "\n" not in outcome.error
        return outcome.error

    int8 = ("--precision", "int8")
    assert "no such model" in error("nothing", *int8)
    assert "there is no such file" in error("fraud", *int8, "--from", tmp_path / "no.csv")
    assert "No such file" in error("fraud", *int8, "--from", tmp_path / "no.npz")
    truncated = tmp_path / "truncated.npz"
    np.savez(truncated, features=np.zeros((40, 26), np.float32))
    truncated.write_bytes(truncated.read_bytes()[:-30])
    assert "reading rows from" in error("fraud", *int8, "--from", truncated)
    for name, array, reason in (
        ("wide", np.zeros((40, 27), np.float32), "expected `features: float32 [n, 26]`"),
        ("nan", np.full((40, 26), np.nan, np.float32), "with NaN or infinite ones"),
        ("few", np.zeros((4, 26), np.float32), "expected at least 16 rows"),
        ("none", np.zeros((0, 26), np.float32), "expected at least 16 rows"),
    ):
        np.savez(tmp_path / f"{name}.npz", features=array)
        assert reason in error("fraud", *int8, "--from", tmp_path / f"{name}.npz")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert "got an empty file" in error("fraud", *int8, "--from", empty)
    poison = tmp_path / "poison.jsonl"
    event = {"transaction_id": "t", "card_id": "c", "terminal_id": "m", "amount": -1, "event_time": 1_700_000_000_000}
    poison.write_text(json.dumps(event) + "\n")
    assert "got none that can be used" in error("fraud", *int8, "--from", poison)
    networks.save(root, networks.layers())
    assert "give rows of its inputs with --from FILE.npz" in error("scaling", *int8)
    optimise(root, "fraud", "--precision", "fp16", "--keep-slower")
    assert "got one that is itself derived from fraud/2" in error("fraud/3", *int8)
    for arguments in (("fraud/x", *int8), ("fraud",), ("fraud", "--precision", "int4"), ("fraud", *int8, "--rows", 3)):
        optimise(root, *arguments, code=2)
    both = optimise(root, "fraud", *int8, "--from", empty, "--from-topic", "t", code=2)
    assert "exclude each other" in both.err
    assert Repository([root]).versions("fraud") == [2, 3]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((40, 4), np.float32), "labels": np.zeros(20)},
        {"x": np.zeros((40, 4), np.float32), "labels": np.zeros((40, 2))},
        {"x": np.zeros((40, 4), np.float32), "y": np.zeros((50, 4), np.float32)},
        {"x": np.float32(1)},
    ],
)
def test_arrays_of_other_numbers_of_rows_are_a_sentence(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(DerivationFailed, match="expected arrays of as many rows each, `labels` of one axis"):
        samples.from_npz(tmp_path / "rows.npz", ["x", "y"], 16)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared fraud data")
def test_recorded_days_in_int8_lose_next_to_nothing(root: Path) -> None:
    command = ("models", "optimise", "fraud", "--precision", "int8", "--from", SHARED, "--root", root, "--json")
    answer = run(*command, "--keep-slower").lines()[0]
    held_out = answer["comparisons"][1]
    assert held_out["rows"] == samples.MOST_HELD_OUT
    assert held_out["float32"]["average_precision"] > 0.7
    assert held_out["int8"]["average_precision"] > held_out["float32"]["average_precision"] - 0.005
    assert held_out["agreement"] > 0.999
