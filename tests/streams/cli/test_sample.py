from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from models import manifest as manifest_file
from models import repository
from models.engine import ModelExists, ModelNotFound, TrainingFailed
from models.fraud.inputs import INPUTS
from models.fraud.known import known_by
from models.fraud.recorded import recorded_inputs
from models.fraud.sample import FILLING_DAYS, training_sample
from models.repository import ZOO, Repository
from streams.cli.models import models
from streams.cli.simulated import simulate

WORLD = ("--days", "60", "--customers", "300", "--seed", "5")


def run(*arguments: object, code: int = 0) -> Result:
    command = ["sample", "fraud", *map(str, arguments)]
    outcome = CliRunner().invoke(models, command, catch_exceptions=False, env={"COLUMNS": "200"})
    assert outcome.exit_code == code, outcome.output
    return outcome


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two versions of the bundled network, both without a sample."""
    for version in (2, 3):
        folder = tmp_path / "fraud" / str(version)
        shutil.copytree(ZOO / "fraud" / "2", folder, ignore=shutil.ignore_patterns("sample.npz"))
        manifest = manifest_file.decode((folder / "manifest.toml").read_bytes(), folder)
        bare = msgspec.structs.replace(manifest, version=version, sample="")
        (folder / "manifest.toml").write_bytes(manifest_file.encode(bare))
    return tmp_path


def test_a_sample_of_the_training_is_stored_with_a_version(root: Path) -> None:
    printed = run(*WORLD, "--root", root).stdout  # the one that serves
    run(*WORLD, "--version", 3, "--root", root)
    older, newer = (Repository([root]).load("fraud", version) for version in (2, 3))
    assert older.manifest.sample == newer.manifest.sample  # the same command, the same bytes
    assert printed.startswith("fraud/2: ")
    assert older.manifest.sample in printed
    known = known_by(simulate(60, 300, 5).transactions).transactions
    inputs = recorded_inputs(known).astype(np.float32)
    engine = repository.open_engine(older)
    scores = engine.infer({"features": inputs})["score"]
    late = known.day - known.day[0] >= (60 - 7) // 2  # less than 74 days: the second half
    sample = older.sample()
    assert sample is not None
    for name, column, values in zip((*INPUTS, "score"), sample.columns, (*inputs.T, scores), strict=True):
        assert set(column.tolist()) <= set(values[late].tolist()), name
    assert older.onnx_bytes() == Repository().load("fraud", 2).onnx_bytes()


def test_the_first_days_of_a_long_training_are_left_out() -> None:
    transactions = simulate(80, 40, 5).transactions
    day = transactions.day - transactions.day[0]
    inputs = np.zeros((len(day), len(INPUTS)), np.float32)
    inputs[:, 0] = day
    sample = training_sample(transactions, inputs, lambda rows: rows[:, 1])
    assert sample.columns[0, 0] == FILLING_DAYS == 37
    assert sample.columns[0, -1] == 79


def test_a_sample_is_not_replaced(root: Path) -> None:
    run(*WORLD, "--version", 3, "--root", root)
    before = (root / "fraud" / "3" / "sample.npz").read_bytes()
    with pytest.raises(ModelExists, match="fraud/3: it has a sample already; nothing was done"):
        run("--days", 30, "--customers", 300, "--version", 3, "--root", root)
    assert (root / "fraud" / "3" / "sample.npz").read_bytes() == before


def test_mistakes_are_sentences(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no version 7"):
        run("--version", 7, "--root", root)
    with pytest.raises(TrainingFailed, match="expected at least 7 days"):
        run("--days", 10, "--customers", 300, "--root", root)
    with pytest.raises(TrainingFailed, match="got 2024-12-31; nothing was trained"):
        run(*WORLD, "--until", "2024-12-31", "--root", root)
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"not parquet")
    assert "belong to simulated" in run("--transactions", file, "--days", 3, "--root", root, code=2).output
    assert Repository([root]).load("fraud").manifest.sample == ""


def test_help_says_which_options_to_give() -> None:
    text = run("--help").output
    assert "headrace models sample fraud --version 2 --days 120 --customers 5000 --seed 0" in text
