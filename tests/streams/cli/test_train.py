from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from connectors.simulators.transactions import TransactionSettings, blocks
from models.engine import RepositoryUnusable, TrainingFailed
from models.fraud.inputs import INPUTS
from models.fraud.known import known_by
from models.fraud.recorded import recorded_inputs
from models.fraud.transactions import read_transactions
from models.repository import Repository
from streams.cli.models import models
from streams.cli.simulated import Simulated, simulate

needs_torch = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "onnx", "sklearn", "pyarrow")),
    reason="training needs the extra `train`",
)


def run(*arguments: object, code: int = 0) -> Result:
    command = ["train", "fraud", *map(str, arguments)]
    outcome = CliRunner().invoke(models, command, catch_exceptions=False, env={"COLUMNS": "200"})
    assert outcome.exit_code == code, outcome.output
    return outcome


@needs_torch
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryUnusable, match="nothing was begun"):
        run("--days", 60, "--epochs", 1, "--output", tmp_path / "file" / "models")


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    """Seventy days from 2025-01-01."""
    return simulate(days=70, customers=400, seed=3)


@pytest.fixture(scope="module")
def recording(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in two files."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = simulated.transactions
    table = pa.table(
        {
            "transaction_id": rows.transaction_ids,
            "event_time": rows.event_time_ms,
            "card_id": rows.cards.keys,
            "terminal_id": rows.terminals.keys,
            "amount": rows.amount,
            "fraud": rows.fraud,
        }
    )
    folder = tmp_path_factory.mktemp("recording")
    files = [folder / "first.parquet", folder / "second.parquet"]
    parquet.write_table(table.slice(0, 30_000), files[0])
    parquet.write_table(table.slice(30_000), files[1])
    return files


@needs_torch
def test_training_on_simulated_transactions_saves_the_next_version(tmp_path: Path) -> None:
    arguments = ("--days", 50, "--customers", 400, "--seed", 1, "--epochs", 2)
    printed = run(*arguments, "--output", tmp_path).stdout
    run(*arguments, "--output", tmp_path)
    first, second = (Repository([tmp_path]).load("fraud", version) for version in (3, 4))
    assert first.onnx_bytes() == second.onnx_bytes()  # the same command gives the same network
    for file in ("golden.npz", "sample.npz"):
        assert (first.path / file).read_bytes() == (second.path / file).read_bytes()
    sample = first.sample()
    assert sample is not None
    assert sample.names == (*INPUTS, "score")
    manifest = first.manifest
    assert manifest.trained.how == "headrace models train fraud " + " ".join(map(str, arguments))
    assert "400 cards from 2025-01-01 to 2025-02-12, whose labels are known by 2025-02-20" in manifest.trained.on
    assert set(manifest.thresholds) == {"review", "block"}
    assert tuple(manifest.baseline) == INPUTS
    assert {"roc_auc", "average_precision", "recall", "calibration_error", "recall_stolen_card"} <= set(
        manifest.quality
    )
    assert printed.startswith("fraud/3")  # one more than the bundled one
    assert "features: float32 [n, 26]" in printed


@needs_torch
def test_training_on_files_uses_what_is_known_by_a_day(
    recording: list[Path], simulated: Simulated, tmp_path: Path
) -> None:
    files = [argument for file in recording for argument in ("--transactions", file)]
    run(*files, "--until", "2025-03-02", "--epochs", 1, "--output", tmp_path)
    model = Repository([tmp_path]).load("fraud")
    assert model.manifest.trained.how == (
        "headrace models train fraud --transactions first.parquet --transactions second.parquet --until 2025-03-02 "
        "--seed 0 --epochs 1"
    )
    known = known_by(read_transactions(recording))  # nothing of the days after --until is among what was used
    inputs = recorded_inputs(known.transactions).astype(np.float32)
    days = known.transactions.day.astype("datetime64[D]")
    seen = {row.tobytes() for row in inputs[days < np.datetime64("2025-02-23")]}
    assert all(row.tobytes() in seen for row in model.golden().inputs["features"])
    assert "from 2025-01-01 to 2025-02-22, whose labels are known by 2025-03-02: " in model.manifest.trained.on
    assert "recall_stolen_card" not in model.manifest.quality


@needs_torch
def test_a_day_outside_of_the_transactions_is_a_sentence(recording: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"from 2025-01-01 to .*, got 2024-12-31; nothing was trained"):
        run("--transactions", recording[0], "--until", "2024-12-31", "--output", tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_torch
def test_a_malformed_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "transactions.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(TrainingFailed, match="expected a Parquet file of transactions"):
        run("--transactions", path, "--output", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_files_and_a_simulation_exclude_each_other(recording: list[Path], tmp_path: Path) -> None:
    output = run("--transactions", recording[0], "--days", 30, "--output", tmp_path, code=2).output
    assert "--days and --customers belong to simulated transactions" in output


def test_training_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("train", "ensemble", "export", "fitting"):
        monkeypatch.delitem(sys.modules, f"models.fraud.{name}", raising=False)
    with pytest.raises(TrainingFailed, match=r"pip install 'headrace\[train\]'"):
        run("--days", 2, "--customers", 10, "--output", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_simulated_transactions_are_those_of_the_topic() -> None:
    seen: list[int] = []
    simulated = simulate(days=3, customers=200, seed=5, on_day=seen.append)
    rows = simulated.transactions
    assert seen[-1] == 3
    assert set(rows.day - rows.day[0]) == {0, 1, 2}
    assert (np.diff(rows.event_time_ms) >= 0).all()
    block = next(block for block in blocks(TransactionSettings(seed=5, customers=200)) if len(block))
    keys, values = block.records()
    assert rows.cards.keys[: len(block)] == keys
    for row in range(0, len(block), 37):
        record = (
            b'"%s"' % rows.transaction_ids[row],
            b'"%s"' % rows.terminals.keys[row],
            b"%d}" % rows.event_time_ms[row],
        )
        assert all(part in values[row] for part in record)
    np.testing.assert_array_equal(rows.fraud, simulated.scenario > 0)
