"""What each group of features adds to a score: exact Shapley values against one baseline row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

MAX_GROUPS = 10
MAX_BATCH = 1 << MAX_GROUPS  # 1024 rows in one call of the score: all coalitions of a row; more cost more time a row

Score = Callable[[NDArray[np.float32]], NDArray[np.float32] | NDArray[np.float64]]
"""float32 [n, d] -> float [n]"""


@dataclass(frozen=True, slots=True)
class Group:
    """Features that say one thing together: a coalition has all of their columns or none."""

    name: str
    columns: tuple[int, ...]


class GroupShapley:
    """Splits score(row) - score(baseline) among groups of features.

    A coalition is a set of groups; its worth is the score of the baseline with those groups' columns taken from the
    row. A group's contribution is what it adds to the worth of the groups before it, averaged over all orders of them.
    Nothing is sampled: all 2^g coalitions are scored. A group whose columns equal the baseline's contributes exactly 0,
    and halves the number of coalitions to score.

    Contributions are in the unit of the score, log-odds or probabilities.

    Args:
        score: float32 [n, d] -> float [n], a row's score independent of the others; called once here with the baseline
            alone, later with up to 1 024 rows.
        groups: At most 10, of distinct names; every column in exactly one.
        baseline: float32 [d], finite: what a row is compared with, e.g. the median of genuine transactions.

    Raises: ValueError where the groups are not a partition of the columns, or the baseline or its score are unusable.

    References:
        L. S. Shapley: A Value for n-Person Games. Contributions to the Theory of Games II, 1953.
        S. M. Lundberg, S.-I. Lee: A Unified Approach to Interpreting Model Predictions. NeurIPS 2017 (features that are
        absent take the values of a reference; here a single one, and features by group).
    """

    groups: tuple[Group, ...]
    baseline_score: float

    def __init__(self, score: Score, groups: Sequence[Group], baseline: NDArray[np.float32]) -> None:
        baseline = np.array(baseline, np.float32)
        owner = _owners(groups, baseline)
        everyone = np.arange(len(groups))
        self.groups = tuple(groups)
        self.baseline_score = _score_of_baseline(score, baseline)
        self._score = score
        self._baseline = baseline
        self._owns = owner[:, None] == everyone  # bool [d, g]
        self._bits = 1 << everyone
        self._coalitions = np.arange(1 << len(groups))  # bit i: group i is a member
        members = (self._coalitions[:, None] & self._bits) != 0  # bool [2^g, g]
        self._from_row = members[:, owner]  # bool [2^g, d]
        self._weights = _weights(members)

    def contributions(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The contribution of each group to each row's score, in the order of `groups`.

        A row's contributions add up to its score minus `baseline_score`.

        Args:
            rows: float32 [k, d], raw; for the flagged rows, not for all.

        Returns:
            float64 [k, g].

        Raises: ValueError where the rows are not as wide as the baseline; what `score` raises.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self._baseline):
            raise ValueError(
                f"attributing scores to groups of features: expected rows of shape [k, {len(self._baseline)}], "
                f"got {list(rows.shape)}"
            )
        found = np.empty((len(rows), len(self.groups)))
        step = MAX_BATCH >> len(self.groups)
        for start in range(0, len(rows), step):
            chunk = slice(start, start + step)
            found[chunk] = self._attribute(rows[chunk])
        return found

    def _attribute(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        moved = (rows != self._baseline) @ self._owns  # bool [k, g]
        same_as = self._coalitions & (moved @ self._bits)[:, None]  # the coalition without members that change nothing
        distinct = same_as == self._coalitions
        distinct[:, 0] = False  # nobody: the baseline
        row, coalition = np.nonzero(distinct)
        worth = np.full(distinct.shape, self.baseline_score)
        if len(row):
            from_row = self._from_row.take(coalition, axis=0)
            worth[distinct] = self._score(np.where(from_row, rows.take(row, axis=0), self._baseline))
        worth = np.take_along_axis(worth, same_as, axis=1)
        return np.where(moved, worth @ self._weights.T, 0.0)  # sums of what cancels round to 1e-17, not to 0


def _weights(members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [g, 2^g]: the factors by which the worths of all coalitions add up to each group's Shapley value.

    A coalition with the group counts for it, one without against it, by the share of the g! orders in which the other
    members come first and then the group.
    """
    sizes = members.sum(axis=1)
    groups = members.shape[1]
    orders = [factorial(before) * factorial(groups - 1 - before) for before in range(groups)]
    shares = np.array(orders, np.float64) / factorial(groups)
    weights: NDArray[np.float64] = np.where(members.T, shares[sizes - 1], -shares[np.minimum(sizes, groups - 1)])
    return weights


def _owners(groups: Sequence[Group], baseline: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 [d]: the group that each column is in.

    Raises: ValueError.
    """
    doing = f"grouping {len(baseline)} columns"
    if not 1 <= len(groups) <= MAX_GROUPS:
        raise ValueError(f"{doing}: expected 1 to {MAX_GROUPS} groups, got {len(groups)}")
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise ValueError(f"{doing}: expected groups of distinct names, got {names!r}")
    owner = np.full(len(baseline), -1, np.int64)
    for index, group in enumerate(groups):
        if not group.columns:
            raise ValueError(f"{doing}: expected at least one column in group {group.name!r}, got none")
        for column in group.columns:
            if not 0 <= column < len(baseline):
                raise ValueError(f"{doing}: expected columns below {len(baseline)}, got {column} in {group.name!r}")
            if owner[column] >= 0:
                raise ValueError(
                    f"{doing}: expected every column in one group, got column {column} "
                    f"in {names[owner[column]]!r} and in {group.name!r}"
                )
            owner[column] = index
    missing = np.flatnonzero(owner < 0).tolist()
    if missing:
        raise ValueError(f"{doing}: expected every column in one group, got columns {missing!r} in none")
    return owner


def _score_of_baseline(score: Score, baseline: NDArray[np.float32]) -> float:
    if not np.isfinite(baseline).all():
        column = int(np.flatnonzero(~np.isfinite(baseline))[0])
        raise ValueError(f"scoring the baseline: expected finite values, got {baseline[column]} in column {column}")
    scores = score(baseline[None])
    if scores.shape != (1,) or not np.isfinite(scores[0]):
        raise ValueError(
            f"scoring the baseline: expected one finite score of shape [1], got {scores.tolist()!r} "
            f"of shape {list(scores.shape)}"
        )
    return float(scores[0])
