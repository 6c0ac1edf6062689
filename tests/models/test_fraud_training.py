from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="training needs the extra `train`")
torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from models.engine import TrainingFailed  # noqa: E402 - after the skip
from models.engines.onnx import OnnxEngine  # noqa: E402
from models.fraud import evaluate  # noqa: E402
from models.fraud.features import FEATURES  # noqa: E402
from models.fraud.network import FraudNetwork, to_onnx  # noqa: E402
from models.fraud.train import Epoch, TrainedFraudModel, TrainingSettings, train  # noqa: E402

SETTINGS = TrainingSettings(seed=3, epochs=3, batch_rows=256)


def rows(n: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Fraud is likelier the larger the amount beside the card's mean."""
    rng = np.random.default_rng(1)
    features = rng.lognormal(3, 1, (n, len(FEATURES))).astype(np.float32)
    ratio = np.log(features[:, FEATURES.index("amount")] / features[:, FEATURES.index("mean_30d")])
    return features, rng.random(n) < 1 / (1 + np.exp(8 - 4 * ratio))


@pytest.fixture(scope="module")
def epochs() -> list[Epoch]:
    return []


@pytest.fixture(scope="module")
def trained(epochs: list[Epoch]) -> TrainedFraudModel:
    return train(*rows(), SETTINGS, epochs.append)


def test_the_same_rows_and_seed_give_the_same_bytes(trained: TrainedFraudModel) -> None:
    torch.rand(7)  # whatever else drew random numbers meanwhile
    again = train(*rows(), SETTINGS)
    assert again.onnx == trained.onnx
    assert again.golden.encode() == trained.golden.encode()
    assert (again.thresholds, again.baseline, again.quality) == (
        trained.thresholds,
        trained.baseline,
        trained.quality,
    )


def test_training_leaves_torch_as_it_was() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3).tolist()
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    with pytest.raises(TrainingFailed):
        train(*rows(400), TrainingSettings(epochs=1, flag_precision=1.01))
    assert torch.rand(3).tolist() == expected
    assert torch.get_num_threads() == threads


def test_every_epoch_is_reported(trained: TrainedFraudModel, epochs: list[Epoch]) -> None:
    assert [(epoch.number, epoch.of) for epoch in epochs] == [(1, 3), (2, 3), (3, 3)]
    assert epochs[-1].loss < epochs[0].loss


def test_the_quality_is_that_of_the_last_rows_by_time(trained: TrainedFraudModel) -> None:
    features, labels = rows()
    engine = OnnxEngine()
    engine.load_bytes(trained.onnx, "fraud")
    scores = engine.infer({"features": features[5100:]})["score"]
    np.testing.assert_allclose(scores, trained.test_scores, atol=1e-5)
    expected = evaluate.quality(scores, labels[5100:], trained.thresholds["flag"])
    assert trained.quality == pytest.approx(expected, abs=1e-3)
    assert trained.quality["roc_auc"] > 0.9
    chosen = engine.infer({"features": features[4200:5100]})["score"]
    flagged = evaluate.at_threshold(chosen, labels[4200:5100], trained.thresholds["flag"])
    assert flagged["precision"] == pytest.approx(SETTINGS.flag_precision, abs=0.03)
    assert trained.thresholds["review"] == trained.thresholds["flag"] <= trained.thresholds["decline"]


def test_scores_are_probabilities_although_frauds_weigh_more(trained: TrainedFraudModel) -> None:
    labels = rows()[1][5100:]
    assert trained.test_scores.mean() == pytest.approx(labels.mean(), rel=0.35)


def test_the_baseline_is_the_genuine_median_of_the_training_rows(trained: TrainedFraudModel) -> None:
    features, labels = rows()
    genuine = np.median(features[:4200][~labels[:4200]], axis=0)
    assert list(trained.baseline) == list(FEATURES)
    np.testing.assert_allclose(list(trained.baseline.values()), genuine, atol=1e-4)


def test_the_exported_graph_is_small_and_holds_no_trace_of_the_machine(trained: TrainedFraudModel) -> None:
    model = onnx.load_from_string(trained.onnx)
    assert len(trained.onnx) < 100_000
    assert [entry.version for entry in model.opset_import] == [18]
    assert not model.metadata_props and not model.doc_string and not model.producer_version
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert len(model.graph.node) <= 18
    assert sum(parameter.numel() for parameter in FraudNetwork().parameters()) <= 20_000


@pytest.mark.parametrize("n", [1, 700])
def test_torch_and_onnx_agree_on_raw_extreme_features(n: int) -> None:
    torch.manual_seed(0)
    network = FraudNetwork()
    features = np.random.default_rng(n).lognormal(2, 4, (n, len(FEATURES))).astype(np.float32)
    network.standardise_on(torch.from_numpy(np.abs(features[:, :]) + np.arange(1, n + 1, dtype=np.float32)[:, None]))
    features[0, :3] = (-1e6, 0, 1e9)
    engine = OnnxEngine()
    engine.load_bytes(to_onnx(network), "fraud")
    scores = engine.infer({"features": features})["score"]
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, network.score(features), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "labels", "complaint"),
    [
        (np.zeros((4, 3), np.float32), np.zeros(4, bool), r"expected float32 \[n, 13\] and bool \[n\]"),
        (np.zeros((4, 13)), np.zeros(4, bool), "got float64"),
        (np.zeros((4, 13), np.float32), np.zeros(5, bool), r"bool \[5\]"),
        (np.full((4, 13), np.nan, np.float32), np.zeros(4, bool), "expected finite features, .* in row 0"),
        (np.zeros((40, 13), np.float32), np.zeros(40, bool), "expected fraud and genuine ones among 28 training rows"),
        (np.zeros((40, 13), np.float32), np.arange(40) == 2, "among 6 validation rows"),
        (np.zeros((40, 13), np.float32), np.isin(np.arange(40), (2, 30)), "among 6 test rows"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(features: np.ndarray, labels: np.ndarray, complaint: str) -> None:
    with pytest.raises(TrainingFailed, match=complaint):
        train(features, labels)
