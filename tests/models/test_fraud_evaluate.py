from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.engine import TrainingFailed
from models.fraud import evaluate

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the independent implementation (extra train)")


def sample(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(2000) < 0.05
    scores = np.round(rng.normal(labels.astype(float), 1), decimals).astype(np.float32)
    return scores, labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 6], ids=["many ties", "ties", "hardly any"])
def test_figures_equal_scikit_learn(seed: int, decimals: int) -> None:
    scores, labels = sample(seed, decimals)
    assert evaluate.roc_auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    expected = metrics.average_precision_score(labels, scores)
    assert evaluate.average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)
    at = evaluate.at_threshold(scores, labels, 0.5)
    assert at["recall"] == pytest.approx(metrics.recall_score(labels, scores >= 0.5))
    assert at["precision"] == pytest.approx(metrics.precision_score(labels, scores >= 0.5))


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_that_reaches_the_precision(seed: int) -> None:
    scores, labels = sample(seed, 1)
    chosen = evaluate.threshold_at_precision(scores, labels, 0.3)
    reaching = [t for t in np.unique(scores) if metrics.precision_score(labels, scores >= t) >= 0.3]
    assert chosen == min(reaching)


@pytest.mark.parametrize("n", [3, 2000, 2013])
def test_the_calibration_error_is_the_mean_gap_of_bins_of_equal_size(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.random(n)
    labels = rng.random(n) < scores**2
    labels[:2] = (False, True)
    ranked = sorted(zip(scores.tolist(), labels.tolist(), strict=True))
    bins = min(20, n)
    cuts = [sum(n // bins + (at < n % bins) for at in range(done)) for done in range(bins + 1)]
    gaps = [abs(sum(score - label for score, label in ranked[a:b])) for a, b in itertools.pairwise(cuts)]
    assert evaluate.calibration_error(scores, labels) == pytest.approx(sum(gaps) / n)


def test_calibrated_scores_have_no_calibration_error_to_speak_of() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200_000) ** 4
    labels = rng.random(len(scores)) < scores
    assert evaluate.calibration_error(scores, labels) < 0.005 < evaluate.calibration_error(scores / 2, labels)


def test_perfect_and_reversed_scores() -> None:
    labels = np.array([False, False, True, True])
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert evaluate.roc_auc(scores, labels) == evaluate.average_precision(scores, labels) == 1
    assert evaluate.roc_auc(-scores, labels) == 0
    assert evaluate.threshold_at_precision(scores, labels, 1.0) == 0.8


def test_a_precision_out_of_reach_says_what_is_in_reach() -> None:
    labels = np.array([True, False, True, False])
    with pytest.raises(TrainingFailed, match=r"expected one with a precision of 0.90, got 0.50 at best"):
        evaluate.threshold_at_precision(np.zeros(4), labels, 0.9)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros(3), np.zeros(3, bool)),
        (np.zeros(3), np.ones(3, bool)),
        (np.zeros(3), np.ones(2, bool)),
        (np.array([0.0, np.nan]), np.array([True, False])),
        (np.zeros(0), np.zeros(0, bool)),
    ],
    ids=["all genuine", "all fraud", "shapes", "nan", "empty"],
)
def test_scores_that_cannot_be_ranked_are_refused(scores: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(TrainingFailed, match="evaluating"):
        evaluate.roc_auc(scores, labels)
    with pytest.raises(TrainingFailed, match="evaluating"):
        evaluate.average_precision(scores, labels)
