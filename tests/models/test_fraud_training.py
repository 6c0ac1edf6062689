from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="training needs the extra `train`")
torch = pytest.importorskip("torch", reason="training needs the extra `train`")

pytest.importorskip("sklearn", reason="training needs the extra `train`")

from models.engine import TrainingFailed  # noqa: E402 - after the skips
from models.engines.onnx import OnnxEngine  # noqa: E402
from models.fraud import evaluate  # noqa: E402
from models.fraud.ensemble import FraudEnsemble  # noqa: E402
from models.fraud.export import to_onnx  # noqa: E402
from models.fraud.fitting import FitSettings, Progress  # noqa: E402
from models.fraud.inputs import INPUTS  # noqa: E402
from models.fraud.train import TrainedFraudModel, TrainingSettings, train  # noqa: E402

FIT = FitSettings(seed=3, epochs=4, batch_rows=256, learning_rate=1e-2, members=2, hidden=16)
SETTINGS = TrainingSettings(fit=FIT)


def rows(n: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Fraud is likelier the larger the amount beside the card's mean."""
    rng = np.random.default_rng(1)
    inputs = rng.lognormal(3, 1, (n, len(INPUTS))).astype(np.float32)
    ratio = np.log(inputs[:, INPUTS.index("amount")] / inputs[:, INPUTS.index("mean_30d")])
    inputs[:, INPUTS.index("amount_ratio")] = ratio
    return inputs, rng.random(n) < 1 / (1 + np.exp(8 - 4 * ratio))


@pytest.fixture(scope="module")
def epochs() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def trained(epochs: list[Progress]) -> TrainedFraudModel:
    return train(*rows(), SETTINGS, epochs.append)


def test_the_same_rows_and_seed_give_the_same_bytes(trained: TrainedFraudModel) -> None:
    torch.rand(7)  # whatever else drew random numbers meanwhile
    again = train(*rows(), SETTINGS)
    assert again.onnx == trained.onnx
    assert again.golden.encode() == trained.golden.encode()
    assert (again.thresholds, again.baseline, again.quality) == (trained.thresholds, trained.baseline, trained.quality)
    other = train(*rows(), TrainingSettings(fit=FitSettings(**{**vars(FIT), "seed": 4})))
    assert other.onnx != trained.onnx


def test_training_leaves_torch_as_it_was() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3).tolist()
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    train(*rows(), TrainingSettings(fit=FitSettings(epochs=1, members=1, hidden=4)))
    assert torch.rand(3).tolist() == expected
    assert torch.get_num_threads() == threads


def test_every_epoch_is_told(trained: TrainedFraudModel, epochs: list[Progress]) -> None:
    assert [epoch.done for epoch in epochs] == list(range(1, 9))
    assert epochs[-1].loss < epochs[4].loss


def test_the_quality_is_that_of_the_last_rows_by_time(trained: TrainedFraudModel) -> None:
    inputs, labels = rows()
    engine = OnnxEngine()
    engine.load_bytes(trained.onnx, "fraud")
    scores = engine.infer({"features": inputs[5100:]})["score"]
    np.testing.assert_allclose(scores, trained.test_scores, atol=1e-5)
    expected = evaluate.quality(scores, labels[5100:], trained.thresholds["review"])
    assert trained.quality == pytest.approx(expected, abs=1e-3)
    assert trained.quality["roc_auc"] > 0.9
    assert trained.quality["calibration_error"] < 0.06


def test_scores_are_probabilities(trained: TrainedFraudModel) -> None:
    labels = rows()[1][5100:]
    assert trained.test_scores.mean() == pytest.approx(labels.mean(), rel=0.35)


def test_thresholds_have_their_precisions(trained: TrainedFraudModel) -> None:
    labels = rows()[1][5100:]
    assert list(trained.thresholds) == ["review", "block"]
    assert 0 < trained.thresholds["review"] < trained.thresholds["block"] < 1
    reviewed = evaluate.at_threshold(trained.test_scores, labels, trained.thresholds["review"])
    blocked = evaluate.at_threshold(trained.test_scores, labels, trained.thresholds["block"])
    assert reviewed["precision"] == pytest.approx(SETTINGS.review_precision, abs=0.15)
    assert blocked["precision"] > reviewed["precision"]


def test_a_precision_that_no_threshold_has_is_taken_for_the_score_that_promises_it() -> None:
    inputs, labels = rows()
    coin = np.random.default_rng(2).random(len(labels)) < 0.5
    trained = train(inputs, labels & coin, TrainingSettings(fit=FitSettings(epochs=1, members=1, hidden=4)))
    assert trained.thresholds["block"] == SETTINGS.block_precision


def test_the_baseline_is_the_genuine_median_of_the_rows_trained_on(trained: TrainedFraudModel) -> None:
    inputs, labels = rows()
    genuine = np.median(inputs[:5100][~labels[:5100]], axis=0)
    assert tuple(trained.baseline) == INPUTS
    np.testing.assert_allclose(list(trained.baseline.values()), genuine, atol=1e-4)


def test_the_golden_batch_has_frauds_and_genuine_ones(trained: TrainedFraudModel) -> None:
    batch, expected = trained.golden.inputs["features"], trained.golden.outputs["score"]
    assert batch.dtype == expected.dtype == np.float32
    frauds = int(rows()[1][5100:].sum())
    assert batch.shape == (min(128, frauds) + 128, len(INPUTS))
    assert np.ptp(expected) > 0.5


def test_the_exported_graph_holds_no_trace_of_the_machine(trained: TrainedFraudModel) -> None:
    model = onnx.load_from_string(trained.onnx)
    assert [entry.version for entry in model.opset_import] == [18]
    assert not model.metadata_props and not model.doc_string and not model.producer_version
    assert not any(node.doc_string for node in model.graph.node)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


@pytest.mark.parametrize("n", [1, 700])
def test_torch_and_onnx_agree_on_raw_extreme_inputs(n: int) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(n)
    edges = [np.sort(rng.lognormal(2, 2, count)).astype(np.float32) for count in (2, 9, 0, 5)]
    ensemble = FraudEnsemble(edges, members=3, hidden=8, dropout=0.5).eval()
    for bias in ensemble.biases:
        torch.nn.init.normal_(bias)
    ensemble.standardise_on(torch.from_numpy(rng.lognormal(2, 2, (500, 4)).astype(np.float32)))
    ensemble.slope.fill_(1.7)
    ensemble.shift.fill_(-0.9)
    inputs = rng.lognormal(2, 4, (n, 4)).astype(np.float32)
    inputs[0] = (-1e6, 0, 1e9, 3e38)
    engine = OnnxEngine()
    engine.load_bytes(to_onnx(ensemble), "fraud")
    scores = engine.infer({"features": inputs})["score"]
    assert np.isfinite(scores).all()
    assert np.ptp(ensemble.score(inputs)) > 0 or n == 1
    np.testing.assert_allclose(scores, ensemble.score(inputs), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "labels", "complaint"),
    [
        (np.zeros((4, 3), np.float32), np.zeros(4, bool), r"expected inputs \[4, 26\], got \[4, 3\]"),
        (np.zeros((40, 26)), np.arange(40) % 2 == 0, "got float64"),
        (np.zeros((4, 26), np.float32), np.zeros(5, bool), r"expected inputs \[5, 26\]"),
        (
            np.full((40, 26), np.nan, np.float32),
            np.arange(40) % 2 == 0,
            "expected finite inputs, got nan in row 0, input 0",
        ),
        (np.zeros((40, 26), np.float32), np.zeros(40, bool), "among 6 test rows"),
        (np.zeros((40, 26), np.float32), np.isin(np.arange(40), (2, 38)), "among 10 rows to calibrate on"),
        (np.zeros((40, 26), np.float32), np.isin(np.arange(40), (30, 38)), "among 24 rows to fit"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(inputs: np.ndarray, labels: np.ndarray, complaint: str) -> None:
    with pytest.raises(TrainingFailed, match=complaint):
        train(inputs, labels)
