"""Figures of due scores, against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.fraud.evaluate import calibration_error
from models.fraud.label_quality import FIGURES, quality


def sample(seed: int, count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    scores = draw.beta(0.3, 8, count).astype(np.float32)
    return scores, draw.random(count) < scores


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the independent implementation")
    scores, fraud = sample(seed)
    flagged = scores > 0.3
    figures = quality(scores, flagged, fraud)
    assert set(figures) == set(FIGURES)
    assert figures["precision"] == pytest.approx(metrics.precision_score(fraud, flagged))
    assert figures["recall"] == pytest.approx(metrics.recall_score(fraud, flagged))
    assert figures["average_precision"] == pytest.approx(metrics.average_precision_score(fraud, scores), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_without_equal_scores_bins_are_of_equal_mass(seed: int) -> None:
    scores, fraud = sample(seed)
    scores = np.unique(scores)[:2500]
    fraud = fraud[: len(scores)]
    error = 0.0
    for rows in np.split(np.argsort(scores), 20):
        error += abs(scores[rows].astype(np.float64).mean() - fraud[rows].mean()) * len(rows) / len(scores)
    assert calibration_error(scores, fraud) == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_equal_scores_are_never_parted_so_the_order_does_not_matter(seed: int) -> None:
    scores, fraud = sample(seed)
    scores = np.round(scores, 1)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert calibration_error(scores[order], fraud[order]) == pytest.approx(calibration_error(scores, fraud), abs=1e-12)
    groups = {float(score): np.flatnonzero(scores == score) for score in np.unique(scores)}
    coarse = sum(abs((scores[rows].astype(float) - fraud[rows]).sum()) for rows in groups.values()) / len(scores)
    assert calibration_error(scores, fraud) <= coarse + 1e-12  # bins are unions of those groups


def test_calibrated_scores_have_a_small_error_and_shifted_ones_the_shift() -> None:
    scores, fraud = sample(1, 200_000)
    assert calibration_error(scores, fraud) < 0.005
    assert calibration_error(np.full(1000, 0.4), np.arange(1000) < 100) == pytest.approx(0.3)
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0


@pytest.mark.parametrize(
    ("flagged", "fraud", "known"),
    [
        ([], [], []),
        ([False, False], [False, False], ["calibration_error"]),
        ([True, False], [False, False], ["calibration_error", "precision"]),
        ([False, False], [False, True], ["average_precision", "calibration_error", "recall"]),
        ([True, True], [True, True], ["calibration_error", "precision", "recall"]),
    ],
)
def test_a_figure_without_its_transactions_is_not_a_number(
    flagged: list[bool], fraud: list[bool], known: list[str]
) -> None:
    figures = quality(np.linspace(0, 1, len(fraud)), np.array(flagged, np.bool_), np.array(fraud, np.bool_))
    assert sorted(name for name, value in figures.items() if not math.isnan(value)) == known
