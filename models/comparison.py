"""A challenger's predictions beside the champion's: how far apart, and where that would have mattered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True)
class Agreement:
    """Whether both are on the same side of the champion's threshold and the challenger's, of the same name.

    `both`, `champion_only` and `challenger_only` count events at or above them; `share` is that of the events on which
    they agree.
    """

    champion_threshold: float
    challenger_threshold: float
    both: int
    champion_only: int
    challenger_only: int
    share: float


@dataclass(frozen=True)
class Summary:
    """Two columns of predictions in figures.

    `difference` is challenger less champion; `quantiles` name a share -> its difference. `histogram` has the counts of
    champion and challenger in ten equal bins from `low` to `high`. `rank_correlation` is Spearman's; nan where one of
    them is constant.
    """

    events: int
    mean_difference: float
    mean_absolute_difference: float
    largest_difference: float
    quantiles: dict[str, float]
    rank_correlation: float
    low: float
    high: float
    histogram: tuple[list[int], list[int]]
    agreement: dict[str, Agreement]


def compare(
    champion: Floats,
    challenger: Floats,
    champion_thresholds: Mapping[str, float],
    challenger_thresholds: Mapping[str, float],
) -> Summary:
    """Sum up predictions for the same events.

    Args:
        champion, challenger: float64 [n], finite, at least one.
        champion_thresholds, challenger_thresholds: of their manifests; those that both have are looked at.

    Raises: ValueError where the columns do not belong together.
    """
    if champion.shape != challenger.shape or champion.ndim != 1 or not len(champion):
        raise ValueError(
            f"comparing predictions: expected two columns of the same events, got {list(champion.shape)} and "
            f"{list(challenger.shape)}"
        )
    difference = challenger - champion
    low, high = float(min(champion.min(), challenger.min())), float(max(champion.max(), challenger.max()))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    shares = (0.01, 0.25, 0.5, 0.75, 0.99)
    return Summary(
        events=len(champion),
        mean_difference=float(difference.mean()),
        mean_absolute_difference=float(np.abs(difference).mean()),
        largest_difference=float(np.abs(difference).max()),
        quantiles=dict(zip(map(str, shares), np.quantile(difference, shares).tolist(), strict=True)),
        rank_correlation=_spearman(champion, challenger),
        low=low,
        high=high,
        histogram=(np.histogram(champion, edges)[0].tolist(), np.histogram(challenger, edges)[0].tolist()),
        agreement={
            name: _agreement(champion, challenger, threshold, challenger_thresholds[name])
            for name, threshold in champion_thresholds.items()
            if name in challenger_thresholds
        },
    )


def disagreements(champion: Floats, challenger: Floats, summary: Summary, count: int) -> NDArray[np.intp]:
    """int [at most count]: the events worth a look: those decided otherwise first, by how far they are apart."""
    otherwise = np.zeros(len(champion), np.bool_)
    for each in summary.agreement.values():
        otherwise |= (champion >= each.champion_threshold) != (challenger >= each.challenger_threshold)
    return np.lexsort((-np.abs(challenger - champion), ~otherwise))[:count]


def _agreement(champion: Floats, challenger: Floats, threshold: float, other: float) -> Agreement:
    above, above_other = champion >= threshold, challenger >= other
    return Agreement(
        threshold,
        other,
        int(np.count_nonzero(above & above_other)),
        int(np.count_nonzero(above & ~above_other)),
        int(np.count_nonzero(~above & above_other)),
        float(np.mean(above == above_other)),
    )


def _spearman(left: Floats, right: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank."""
    ranks = [_ranks(column) for column in (left, right)]
    if any(column.min() == column.max() for column in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(column: Floats) -> Floats:
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: Floats = (ends - (counts - 1) / 2).astype(np.float64)
    return middles[inverse]
