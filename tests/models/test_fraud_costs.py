"""The cheapest thresholds and what any others cost, against counting every pair out."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engine import TrainingFailed
from models.fraud.costs import NEVER, Costs, ThresholdCosts


def total(
    scores: NDArray[np.float32],
    fraud: NDArray[np.bool_],
    amounts: NDArray[np.float64],
    costs: Costs,
    review: float,
    block: float,
) -> float:
    """Row by row."""
    cost = 0.0
    for score, is_fraud, amount in zip(scores, fraud.tolist(), amounts.tolist(), strict=True):
        if score >= np.float32(block):
            cost += 0 if is_fraud else costs.friction
        elif score >= np.float32(review):
            cost += costs.review
        else:
            cost += costs.fraud_loss * amount if is_fraud else 0
    return cost


def recorded(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64], Costs]:
    """Few transactions with many ties, and scores that know something; now and then a cost is nothing."""
    dice = random.Random(seed)
    count = dice.choice([2, 5, 40])
    fraud = np.array([True, False] + [dice.random() < 0.4 for _ in range(count - 2)])
    spread = dice.choice([2, 8, 10_000])
    scores = [min(1.0, (dice.randrange(spread) + is_fraud * dice.randrange(spread)) / spread) for is_fraud in fraud]
    amounts = np.array([round(dice.lognormvariate(3, 1), 2) for _ in range(count)])
    costs = Costs(dice.choice([0, 1, 1.2]), dice.choice([0, 3, 20]), dice.choice([0, 5, 15, 80]))
    return np.array(scores, np.float32), fraud, amounts, costs


@pytest.mark.parametrize("seed", range(200))
def test_no_pair_of_thresholds_is_cheaper_than_the_best(seed: int) -> None:
    scores, fraud, amounts, costs = recorded(seed)
    judged = ThresholdCosts(scores, fraud, amounts, costs, days=3)
    cuts = [*sorted(set(scores.tolist())), NEVER]
    assert judged.cuts.tolist() == cuts
    pairs = {
        (review, block): total(scores, fraud, amounts, costs, review, block)
        for review in cuts
        for block in cuts
        if review <= block
    }
    review, block = judged.best()
    assert review <= block
    assert total(scores, fraud, amounts, costs, review, block) == pytest.approx(min(pairs.values()), abs=1e-6)
    for (each_review, each_block), cost in pairs.items():
        assert judged.per_day(each_review, each_block) == pytest.approx(cost / 3, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_between_scores_and_whole_curves(seed: int) -> None:
    scores, fraud, amounts, costs = recorded(seed)
    judged = ThresholdCosts(scores, fraud, amounts, costs, days=1)
    grid = np.linspace(0, 1, 9)
    curve = judged.per_day(grid, 0.6)
    for threshold, cost in zip(grid.tolist(), curve.tolist(), strict=True):
        if threshold <= 0.6:
            assert cost == pytest.approx(total(scores, fraud, amounts, costs, threshold, 0.6), abs=1e-6)
        else:
            assert math.isnan(cost)


def test_the_outcome_counts_what_happens_to_whom() -> None:
    scores = np.array([0.1, 0.2, 0.5, 0.6, 0.8, 0.95], np.float32)
    fraud = np.array([False, True, False, True, False, True])
    amounts = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    outcome = ThresholdCosts(scores, fraud, amounts, Costs(1.5, 3, 15), days=2).outcome(0.5, 0.8)
    assert (outcome.approved, outcome.reviewed, outcome.blocked) == (2, 2, 2)
    assert outcome.recall == pytest.approx(2 / 3)
    assert outcome.genuine_affected == pytest.approx(2 / 3)
    assert outcome.cost_per_day == pytest.approx((1.5 * 20 + 3 + 3 + 15) / 2)
    assert (outcome.review, outcome.block) == (0.5, 0.8)


def test_chosen_thresholds_have_no_more_digits_than_tell_scores_apart() -> None:
    scores = np.array([0.1, 0.213456, 0.61, 0.6123456, 0.99], np.float32)
    fraud = np.array([False, False, False, True, True])
    amounts = np.array([5.0, 5.0, 5.0, 100.0, 100.0])
    assert ThresholdCosts(scores, fraud, amounts, Costs(), days=1).best() == (0.612, 0.612)


def test_of_equal_pairs_the_one_that_touches_fewer_is_chosen() -> None:
    scores, fraud = np.array([0.1, 0.5, 0.9], np.float32), np.array([False, True, False])
    free = Costs(fraud_loss=0, review=0, friction=0)
    assert ThresholdCosts(scores, fraud, np.ones(3), free, days=1).best() == (NEVER, NEVER)


def test_where_fraud_costs_much_everything_is_reviewed_and_where_looking_does_nothing_is() -> None:
    scores, fraud = np.array([0.4, 0.5, 0.45, 0.6], np.float32), np.array([True, False, True, False])
    amounts = np.array([1000.0, 1.0, 1000.0, 1.0])
    review, block = ThresholdCosts(scores, fraud, amounts, Costs(review=1, friction=50), days=1).best()
    assert (review <= 0.4, block) == (True, NEVER)
    assert ThresholdCosts(scores, fraud, amounts, Costs(0.001, 9, 9), days=1).best() == (NEVER, NEVER)


def test_what_cannot_be_judged_by_is_a_sentence() -> None:
    scores, amounts = np.array([0.1, 0.5], np.float32), np.ones(2)
    with pytest.raises(TrainingFailed, match="2 transactions: expected fraud and genuine ones, got only genuine ones"):
        ThresholdCosts(scores, np.zeros(2, np.bool_), amounts, Costs(), days=1)
    with pytest.raises(TrainingFailed, match="got only fraud; take other days"):
        ThresholdCosts(scores, np.ones(2, np.bool_), amounts, Costs(), days=1)
    with pytest.raises(TrainingFailed, match=r"one shape \[n\], got \[2\], \[2\] and \[3\]"):
        ThresholdCosts(scores, np.array([True, False]), np.ones(3), Costs(), days=1)
    with pytest.raises(TrainingFailed, match="expected finite scores"):
        ThresholdCosts(np.array([0.1, np.nan], np.float32), np.array([True, False]), amounts, Costs(), days=1)
