"""What thresholds would have cost on transactions whose labels are known, and the cheapest of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engine import TrainingFailed
from models.fraud.decisions import APPROVE, BLOCK, REVIEW, by_thresholds
from models.fraud.evaluate import Labels, Scores

NEVER = math.inf
"""The threshold that no score reaches."""
MOST_DIGITS = 17  # of a threshold: as many as a float64 can need


@dataclass(frozen=True)
class Costs:
    """What decisions cost, in the transactions' currency; all are finite and not negative.

    Args:
        fraud_loss: Of an approved fraud, as a share of its amount; above 1 where a fee comes on top.
        review: Of each transaction reviewed, an analyst's look; a reviewed fraud is stopped.
        friction: Of each genuine transaction blocked; a blocked fraud costs nothing.
    """

    fraud_loss: float = 1.0
    review: float = 3.0
    friction: float = 15.0


@dataclass(frozen=True)
class Outcome:
    """What a pair of thresholds gives.

    Args:
        review, block: The thresholds.
        cost_per_day: In the transactions' currency.
        approved, reviewed, blocked: Transactions.
        recall: Share of the frauds that are reviewed or blocked.
        genuine_affected: Share of the genuine transactions that are reviewed or blocked.
    """

    review: float
    block: float
    cost_per_day: float
    approved: int
    reviewed: int
    blocked: int
    recall: float
    genuine_affected: float


class ThresholdCosts:
    """The total cost of every pair of thresholds review <= block over n labelled transactions.

    A pair costs F(review) + G(block) + what blocking all would cost, where F(t) sums, over the scores below t, by how
    much approving costs more than reviewing, and G(t) by how much reviewing costs more than blocking: so the best
    review threshold under any block threshold is where F is least up to there, a running minimum, and one pass over
    the sorted scores finds the best pair. Exact, O(n log n).

    Args:
        scores: [n], finite.
        fraud: bool [n].
        amounts: float64 [n], finite, not negative.
        costs: What decisions cost.
        days: How many days the transactions are of.

    Raises:
        TrainingFailed: The arrays differ in length, scores are not finite, or there is only fraud or only genuine.
    """

    def __init__(self, scores: Scores, fraud: Labels, amounts: NDArray[np.float64], costs: Costs, days: int) -> None:
        if not scores.shape == fraud.shape == amounts.shape or scores.ndim != 1 or not np.isfinite(scores).all():
            raise TrainingFailed(
                f"choosing thresholds: expected finite scores, labels and amounts of one shape [n], "
                f"got {list(scores.shape)}, {list(fraud.shape)} and {list(amounts.shape)}"
            )
        if fraud.all() or not fraud.any():
            kind = "fraud" if fraud.any() else "genuine ones"
            raise TrainingFailed(
                f"choosing thresholds by {len(fraud)} transactions: expected fraud and genuine ones, got only {kind}; "
                "take other days"
            )
        self._scores, self._fraud, self._days = scores, fraud, days
        approve = np.where(fraud, costs.fraud_loss * amounts, 0)
        block = np.where(fraud, 0, costs.friction)
        distinct, place = np.unique(scores, return_inverse=True)
        self.cuts: NDArray[np.float64] = np.append(distinct.astype(np.float64), NEVER)
        """float64 [k + 1], ascending: every threshold that makes a difference, the distinct scores and NEVER."""
        self._review = _sums_before(place, approve - costs.review)
        self._block = _sums_before(place, costs.review - block)
        self._blocking_all = float(block.sum())

    def best(self) -> tuple[float, float]:
        """The thresholds review and block of the least cost; of several pairs, one that touches fewer transactions.

        They have as few digits as tell the same scores apart.
        """
        least = np.minimum.accumulate(self._review)
        total = least + self._block
        block = len(total) - 1 - int(np.argmin(total[::-1]))
        review = int(np.flatnonzero(self._review[: block + 1] == least[block])[-1])
        return self._threshold(review), self._threshold(block)

    def _threshold(self, cut: int) -> float:
        if cut == len(self.cuts) - 1:
            return NEVER
        score, kind = float(self.cuts[cut]), self._scores.dtype.type
        for digits in range(1, MOST_DIGITS + 1):
            threshold = math.floor(score * 10.0**digits) / 10.0**digits
            if (cut == 0 or self.cuts[cut - 1] < kind(threshold)) and kind(threshold) <= score:
                return threshold
        return score

    def per_day(self, review: NDArray[np.float64] | float, block: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """What pairs of thresholds cost a day; shapes broadcast; NaN where review > block."""
        kind = self._scores.dtype
        places = [np.searchsorted(self.cuts, np.asarray(each, kind), side="left") for each in (review, block)]
        total = self._review[places[0]] + self._block[places[1]] + self._blocking_all
        return np.where(np.asarray(review) <= np.asarray(block), total / self._days, np.nan)

    def outcome(self, review: float, block: float) -> Outcome:
        """What one pair of thresholds gives."""
        decided = by_thresholds(self._scores, review, block)
        counts = np.bincount(decided, minlength=BLOCK + 1)
        touched = decided != APPROVE
        return Outcome(
            review=review,
            block=block,
            cost_per_day=float(self.per_day(review, block)),
            approved=int(counts[APPROVE]),
            reviewed=int(counts[REVIEW]),
            blocked=int(counts[BLOCK]),
            recall=float(touched[self._fraud].mean()),
            genuine_affected=float(touched[~self._fraud].mean()),
        )


def _sums_before(place: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [k + 1]: for each place from 0 to k, the sum of the values at smaller places."""
    return np.concatenate([[0.0], np.cumsum(np.bincount(place, values))])
