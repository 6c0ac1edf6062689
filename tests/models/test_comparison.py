from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.comparison import compare, disagreements

THRESHOLDS = {"review": 0.3, "block": 0.8}


def test_figures_are_those_of_a_plain_count() -> None:
    champion = np.array([0.1, 0.35, 0.9, 0.2, 0.85])
    challenger = np.array([0.2, 0.25, 0.9, 0.5, 0.7])
    summary = compare(champion, challenger, THRESHOLDS, {"review": 0.3, "block": 0.75})
    review, block = summary.agreement["review"], summary.agreement["block"]
    assert (review.both, review.champion_only, review.challenger_only, review.share) == (2, 1, 1, 0.6)
    assert (block.both, block.champion_only, block.challenger_only, block.share) == (1, 1, 0, 0.8)
    assert summary.mean_difference == pytest.approx(0.03)
    assert summary.mean_absolute_difference == pytest.approx(0.13)
    assert summary.largest_difference == pytest.approx(0.3)
    assert summary.quantiles["0.5"] == pytest.approx(0.0)
    assert [sum(counts) for counts in summary.histogram] == [5, 5]


@pytest.mark.parametrize("digits", [1, 6])
def test_rank_correlation_is_scipys_with_and_without_ties(digits: int) -> None:
    random = np.random.default_rng(1)
    champion = random.random(500).round(digits)
    challenger = (champion + 0.3 * random.random(500)).round(digits)
    expected = spearmanr(champion, challenger).statistic
    assert compare(champion, challenger, {}, {}).rank_correlation == pytest.approx(expected, abs=1e-12)


def test_constant_predictions_have_no_rank_correlation_and_still_a_histogram() -> None:
    summary = compare(np.full(3, 0.5), np.full(3, 0.5), {}, {})
    assert np.isnan(summary.rank_correlation)
    assert sum(summary.histogram[0]) == 3


def test_thresholds_that_only_one_has_are_left_out() -> None:
    assert not compare(np.zeros(1), np.zeros(1), {"review": 0.3}, {"block": 0.8}).agreement


def test_what_is_decided_otherwise_comes_before_what_is_far_apart() -> None:
    champion = np.array([0.0, 0.29, 0.5, 0.5])
    challenger = np.array([0.25, 0.31, 0.5, 0.75])
    summary = compare(champion, challenger, THRESHOLDS, THRESHOLDS)
    assert disagreements(champion, challenger, summary, 3).tolist() == [1, 0, 3]


@pytest.mark.parametrize("other", [np.zeros(2), np.zeros((1, 1)), np.zeros(0)])
def test_columns_that_do_not_belong_together_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two columns of the same events"):
        compare(other if not len(other) else np.zeros(1), other, {}, {})
