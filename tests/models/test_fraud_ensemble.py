from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("sklearn", reason="training needs the extra `train`")

from models.engine import TrainingFailed  # noqa: E402 - after the skips
from models.fraud import evaluate  # noqa: E402
from models.fraud.ensemble import FraudEnsemble  # noqa: E402
from models.fraud.fitting import FitSettings, Progress, fit  # noqa: E402

SETTINGS = FitSettings(seed=3, epochs=10, batch_rows=256, learning_rate=1e-2, members=2, hidden=16, dropout=0)
BORDER = 220.0


def rows(n: int = 8000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Fraud is what lies above a border, and a few at random; the second input says nothing."""
    rng = np.random.default_rng(seed)
    inputs = np.stack([rng.lognormal(4, 0.7, n), rng.normal(size=n)], axis=1).astype(np.float32)
    return inputs, (inputs[:, 0] > BORDER) | (rng.random(n) < 0.002)


@pytest.fixture(scope="module")
def epochs() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def fitted(epochs: list[Progress]) -> FraudEnsemble:
    return fit(*rows(), SETTINGS, epochs.append).ensemble


def test_a_border_is_found_however_few_are_beyond_it(fitted: FraudEnsemble) -> None:
    inputs = np.array([[50, 2], [150, 0], [300, 0], [1000, -2]], np.float32)
    usual, below, above, large = fitted.score(inputs)
    assert usual < 0.01
    assert below < 0.1
    assert min(above, large) > 0.9


def test_scores_are_probabilities(fitted: FraudEnsemble) -> None:
    inputs, labels = rows(20_000, seed=2)
    scores = fitted.score(inputs)
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.25)
    sure = scores > 0.8
    assert labels[sure].mean() == pytest.approx(scores[sure].mean(), abs=0.1)
    assert evaluate.roc_auc(scores, labels) > 0.95


def test_the_same_rows_and_seed_give_the_same_weights(fitted: FraudEnsemble) -> None:
    torch.rand(7)  # whatever else drew random numbers meanwhile
    again = fit(*rows(), SETTINGS).ensemble
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_held_out_scores_are_of_rows_that_were_not_fitted_and_calibrated_on_them() -> None:
    inputs, labels = rows()
    fitted = fit(inputs, labels, FitSettings(**{**vars(SETTINGS), "validation_share": 0.25}))
    assert len(fitted.held_out) == 2000
    assert evaluate.roc_auc(fitted.held_out, labels[6000:]) > 0.9
    assert fitted.held_out.mean() == pytest.approx(labels[6000:].mean(), rel=1e-2)
    assert not np.allclose(fitted.held_out, fitted.ensemble.score(inputs[6000:]), atol=1e-4)


def test_members_differ(fitted: FraudEnsemble) -> None:
    inputs = torch.from_numpy(rows(100, seed=5)[0])
    with torch.no_grad():
        first, second = fitted.member_logits(fitted.encode(inputs))
    assert not torch.allclose(first, second, atol=1e-3)


def test_every_epoch_of_both_fits_is_told(fitted: FraudEnsemble, epochs: list[Progress]) -> None:
    assert [epoch.done for epoch in epochs] == list(range(1, 21))
    assert {epoch.of for epoch in epochs} == {20}
    assert epochs[9].loss < epochs[0].loss


def test_an_input_fills_its_bins_in_turn() -> None:
    ensemble = FraudEnsemble([np.array([0, 10, 30], np.float32), np.array([1], np.float32)], 1, 4, 0.0)
    encoded = ensemble.encode(torch.tensor([[-5.0, 1], [5, 1], [20, 1], [99, 1]]))
    assert encoded.shape == (4, 4)  # two logarithms, two bins of the first; the second input has none
    assert encoded[:, 2:].tolist() == [[0, 0], [0.5, 0], [1, 0.5], [1, 1]]


def test_an_input_of_two_values_has_no_bins() -> None:
    inputs, labels = rows()
    flags = (inputs[:, 1:] > 0).astype(np.float32)
    ensemble = fit(np.hstack((inputs, flags)), labels, FitSettings(epochs=1, members=1, hidden=4)).ensemble
    assert set(ensemble.source.tolist()) == {0, 1}


def test_inputs_of_any_size_give_finite_scores(fitted: FraudEnsemble) -> None:
    inputs = np.array([[0, 0], [3e38, 3e38], [-3e38, -3e38]], np.float32)
    assert np.isfinite(fitted.score(inputs)).all()


def test_what_cannot_be_fitted_is_said() -> None:
    inputs, labels = rows()
    with pytest.raises(TrainingFailed, match="expected float32"):
        fit(inputs.astype(np.float64), labels)  # type: ignore[arg-type]
    with pytest.raises(TrainingFailed, match="to calibrate on"):
        fit(inputs, labels & (np.arange(len(labels)) < 4000))
    inputs[17, 1] = np.nan
    with pytest.raises(TrainingFailed, match="in row 17"):
        fit(inputs, labels)
