"""What every bundled model must prove; a new one needs no new test here but its quality's."""

from __future__ import annotations

import numpy as np
import pytest

from models import repository
from models.fraud import evaluate
from models.fraud.explain import reasons
from models.fraud.features import FEATURES
from models.fraud.offline import offline_features
from models.repository import ZOO
from streams.cli.models import simulate

BUNDLED = [(name, version) for name in repository.names(ZOO) for version in repository.versions(ZOO, name)]


def test_there_are_bundled_models() -> None:
    assert ("fraud", 1) in BUNDLED


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_opens_and_replays_its_golden_batch(name: str, version: int) -> None:
    engine = repository.open_engine(repository.load(ZOO, name, version))
    assert engine.name == "onnx-cpu"
    engine.close()


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_says_where_it_comes_from(name: str, version: int) -> None:
    model = repository.load(ZOO, name, version)
    assert model.manifest.licence == "Apache-2.0"
    assert model.manifest.trained.how.startswith(f"headrace models train {name} ")
    assert model.manifest.trained.on
    assert model.manifest.quality


@pytest.mark.parametrize(("name", "version"), BUNDLED)
def test_a_bundled_model_is_three_small_files(name: str, version: int) -> None:
    files = list((ZOO / name / str(version)).iterdir())
    assert sorted(file.name for file in files) == ["golden.npz", "manifest.toml", "model.onnx"]
    assert sum(file.stat().st_size for file in files) < 5_000_000


def test_fraud_reaches_its_stated_quality_on_another_seed() -> None:
    model = repository.load(ZOO, "fraud")
    stated = model.manifest.quality
    assert tuple(model.manifest.baseline) == FEATURES
    assert set(model.manifest.thresholds) == {"flag", "review", "decline"}
    engine = repository.open_engine(model)
    events = simulate(days=60, customers=2000, seed=1234)
    features = offline_features(events.keys(), events.event_time_ms, events.amount)
    warm = slice(len(features) // 2, None)  # the windows of the first 30 days are still filling
    scores = engine.infer({"features": features[warm]})["score"]
    flag = model.manifest.thresholds["flag"]
    got = evaluate.quality(scores, events.fraud[warm], flag)
    assert got["roc_auc"] == pytest.approx(stated["roc_auc"], abs=0.06)
    assert got["average_precision"] == pytest.approx(stated["average_precision"], abs=0.1)
    assert got["precision"] == pytest.approx(stated["precision"], abs=0.12)

    flagged = scores >= flag
    baseline = np.array(list(model.manifest.baseline.values()), np.float32)
    found = reasons(
        lambda rows: engine.infer({"features": rows})["score"], features[warm][flagged], scores[flagged], baseline
    )
    assert np.mean([bool(each) for each in found]) > 0.95  # a flag that nobody can explain is rare
