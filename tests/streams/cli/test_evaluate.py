from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.engine import TrainingFailed
from streams.cli.models import models
from streams.cli.simulated import simulate

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty simulated days from 2025-01-01 in Headrace's own columns."""
    events = simulate(days=30, customers=500, seed=2).transactions
    path = tmp_path_factory.mktemp("transactions") / "january.parquet"
    table = {
        "transaction_id": np.arange(len(events)),
        "event_time": events.event_time_ms,
        "card_id": events.cards.codes,
        "terminal_id": events.cards.codes % 50,
        "amount": events.amount,
        "fraud": events.fraud,
    }
    parquet.write_table(pa.table(table), path)
    return path


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(models, ["evaluate", "fraud", *arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_a_model_is_judged_beside_those_of_scikit_learn(transactions: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    printed = run("--transactions", str(transactions), "--train-start", "2025-01-08", "--json")
    answer = json.loads(printed.splitlines()[-1])
    assert list(answer) == ["headrace", "logistic_regression", "random_forest", "gradient_boosting"]
    assert all(set(figures) == {"auc", "ap", "cp100"} for figures in answer.values())
    # One in a hundred is fraud: chance would give 0.01.
    assert answer["headrace"]["ap"] > 0.2
    again = run("--transactions", str(transactions), "--train-start", "2025-01-08", "--json")
    assert json.loads(again.splitlines()[-1]) == answer


def test_weeks_that_the_files_do_not_cover_are_a_sentence(transactions: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    with pytest.raises(
        TrainingFailed, match="expected days from 2025-01-20 to 2025-02-09, got 2025-01-01 to 2025-01-30"
    ):
        run("--transactions", str(transactions), "--train-start", "2025-01-20")


def test_the_same_file_twice_is_a_sentence(transactions: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    with pytest.raises(TrainingFailed, match="expected each transaction once, got the transaction id '0' again"):
        run("--transactions", str(transactions), "--transactions", str(transactions), "--train-start", "2025-01-08")


def test_without_what_training_needs_it_says_what_to_install(
    transactions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ensemble", "fitting"):
        monkeypatch.delitem(sys.modules, f"models.fraud.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TrainingFailed, match=r"pip install 'headrace\[train\]'"):
        run("--transactions", str(transactions), "--train-start", "2025-01-08")


def test_a_seed_that_no_generator_takes_is_refused_at_once(transactions: Path) -> None:
    said = ("fraud", "--transactions", str(transactions), "--train-start", "2025-01-08", "--seed", str(2**64))
    outcome = CliRunner().invoke(models, ["evaluate", *said])
    assert outcome.exit_code == 2
    assert "is not in the range 0<=x<=4294967295" in outcome.stderr
