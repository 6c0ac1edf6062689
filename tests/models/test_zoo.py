"""What every bundled model must prove; a new one needs no new test here but its quality's."""

from __future__ import annotations

import numpy as np
import pytest

from models import repository
from models.drift import DriftMonitor
from models.fraud import evaluate
from models.fraud.inputs import INPUTS
from models.fraud.recorded import recorded_inputs
from models.repository import ZOO, Repository
from streams.cli.simulated import simulate

BUNDLED = [(name, version) for name in Repository().names() for version in Repository().versions(name)]

OF_FEATURES = ("fraud",)  # a sample of pictures would say little of drift, and be large


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
def test_a_bundled_model_is_a_few_small_files(name: str, version: int) -> None:
    files = list((ZOO / name / str(version)).iterdir())
    expected = ["golden.npz", "manifest.toml", "model.onnx"] + ["sample.npz"] * (name in OF_FEATURES)
    assert sorted(file.name for file in files) == expected
    assert sum(file.stat().st_size for file in files) < 5_000_000


@pytest.mark.parametrize(("name", "version"), [each for each in BUNDLED if each[0] in OF_FEATURES])
def test_a_bundled_model_knows_what_it_was_trained_on(name: str, version: int) -> None:
    model = Repository().load(name, version)
    sample = model.sample()
    assert sample is not None
    assert sample.columns.shape[1] >= 4000
    assert np.isfinite(sample.ks).all()
    assert len(sample.names) == model.manifest.inputs[0].shape[1] + 1
    assert (model.path / "sample.npz").stat().st_size < 300 * 1024


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


def test_another_world_like_the_simulators_does_not_drift_from_the_sample_of_fraud() -> None:
    model = Repository().load("fraud")
    sample = model.sample()
    assert sample is not None
    assert sample.names == (*INPUTS, "score")
    transactions = simulate(days=46, customers=5000, seed=77).transactions
    inputs = recorded_inputs(transactions).astype(np.float32)
    engine = repository.open_engine(model)
    scores = engine.infer({"features": inputs})["score"]
    day, keys, times = transactions.day - transactions.day[0], transactions.cards.keys, transactions.event_time_ms
    for span_h in (24, 168):
        monitor, reports = DriftMonitor(sample, span_h=span_h), []
        start = int(np.searchsorted(day, 37))
        for first in range(start, len(day), 1500):
            part = slice(first, first + 1500)
            monitor.update(inputs[part], scores[part], times[part], keys[part])
            reports.append(monitor.report())
        assert [report.drifting for report in reports if report.drifting] == []
        assert reports[-1].span_h == span_h
    empty = DriftMonitor(sample)  # of a worker that began three days ago: its windows are all but empty
    early = slice(0, int(np.searchsorted(day, 3)))
    empty.update(inputs[early], scores[early], times[early], keys[early])
    assert {"count_30d", "terminal_count_30d"} <= set(empty.report().drifting)
