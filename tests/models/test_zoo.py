"""What every bundled model must prove; a new one needs no new test here but its quality's."""

from __future__ import annotations

import numpy as np
import pytest

from models import repository
from models.fraud import evaluate
from models.fraud.inputs import INPUTS
from models.fraud.recorded import recorded_inputs
from models.repository import ZOO, Repository
from streams.cli.simulated import simulate

BUNDLED = [(name, version) for name in Repository().names() for version in Repository().versions(name)]


def test_there_are_bundled_models() -> None:
    assert ("fraud", 2) in BUNDLED


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_opens_and_replays_its_golden_batch(name: str, version: int) -> None:
    engine = repository.open_engine(Repository().load(name, version), "onnx-cpu")
    engine.close()


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_says_where_it_comes_from(name: str, version: int) -> None:
    model = Repository().load(name, version)
    assert model.manifest.licence == "Apache-2.0"
    assert model.manifest.trained is not None
    assert model.manifest.trained.how.startswith(f"headrace models train {name} ")
    assert model.manifest.trained.on
    assert model.manifest.quality


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_is_three_small_files(name: str, version: int) -> None:
    files = list((ZOO / name / str(version)).iterdir())
    assert sorted(file.name for file in files) == ["golden.npz", "manifest.toml", "model.onnx"]
    assert sum(file.stat().st_size for file in files) < 5_000_000


def test_fraud_reaches_its_stated_quality_on_another_seed() -> None:
    model = Repository().load("fraud")
    stated, thresholds = model.manifest.quality, model.manifest.thresholds
    assert tuple(model.manifest.baseline) == INPUTS
    assert list(thresholds) == ["review", "block"]
    assert thresholds["review"] < thresholds["block"]
    engine = repository.open_engine(model)
    transactions = simulate(days=67, customers=2000, seed=1234).transactions
    inputs = recorded_inputs(transactions).astype(np.float32)
    filled = transactions.day >= transactions.day[0] + 37  # the longest window, and a week until labels come
    labels = transactions.fraud[filled]
    scores = engine.infer({"features": inputs[filled]})["score"]
    got = evaluate.quality(scores, labels, thresholds["review"])
    assert got["roc_auc"] == pytest.approx(stated["roc_auc"], abs=0.06)
    assert got["average_precision"] == pytest.approx(stated["average_precision"], abs=0.1)
    assert got["precision"] == pytest.approx(stated["precision"], abs=0.12)
    assert got["calibration_error"] < 0.005
    early = (transactions.day >= transactions.day[0] + 8) & ~filled  # of a worker that began a week ago
    scores_then = engine.infer({"features": inputs[early]})["score"]
    assert evaluate.quality(scores_then, transactions.fraud[early], 0.5)["average_precision"] > 0.6
    assert evaluate.at_threshold(scores, labels, thresholds["block"])["precision"] > got["precision"]
