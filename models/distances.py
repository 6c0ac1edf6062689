"""How far two samples of one quantity are apart: population stability index, Kolmogorov-Smirnov, chances of both."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

BINS = 10
LEAST_SHARE = 0.001
_TERMS = np.arange(1.0, 101.0)
_SIGNS = np.where(_TERMS % 2 == 1, 2.0, -2.0)


def cuts(reference: Float32, bins: int = BINS) -> Float32:
    """Where the bins of a sample begin and end: values of the sample at evenly spaced shares of it.

    A quantity of at most `bins` distinct values, also one alone, has a bin for each; a value that is frequent enough to
    fill a bin has one of its own, which may leave less to others.

    Args:
        reference: float32 [m], ascending, finite, m > 0.

    Returns:
        float32 [b], ascending, distinct: the last value of each bin.
    """
    distinct, counts = np.unique(reference, return_counts=True)
    if len(distinct) <= bins:
        return distinct
    ends = np.ceil(np.arange(1, bins + 1) / bins * len(reference)).astype(np.int64) - 1
    frequent = np.flatnonzero(counts[1:] >= len(reference) / bins)
    return np.unique(np.concatenate((reference[ends], distinct[frequent])))  # before a frequent value a bin ends


def bin_counts(values: Float32, edges: Float32, lowest: np.float32) -> Int64:
    """int64 [len(edges) + 2]: how many of the values are below `lowest`, in each bin, and above the last edge.

    Args:
        values: ascending, NaN last: it counts as larger than everything.
    """
    upto = np.searchsorted(values, edges, side="right")
    below = np.searchsorted(values, lowest, side="left")
    ends = np.concatenate((np.array([0, below]), upto, np.array([len(values)])))
    counts: Int64 = np.diff(ends)
    return counts


def psi(expected: Int64, actual: Int64) -> float:
    """The population stability index of two samples' bin counts: the sum of (p - q) ln(p / q) over the bins' shares.

    A thousandth is added to each share: so an empty bin has a weight that is finite, and the same whatever the sample's
    size; what is rarer than a thousandth counts for little.

    References: S. Kullback, R. A. Leibler: On Information and Sufficiency. Annals of Mathematical Statistics 22, 1951
    (the divergence J). N. Siddiqi: Credit Risk Scorecards. Wiley, 2006 (by the name PSI).
    """
    p, q = expected / expected.sum() + LEAST_SHARE, actual / actual.sum() + LEAST_SHARE
    return float(((p - q) * np.log(p / q)).sum())


def ks(first: Float32, second: Float32) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest distance between the two distribution functions.

    Args: ascending, NaN last: it counts as larger than everything.

    References: N. V. Smirnov: Table for Estimating the Goodness of Fit of Empirical Distributions. Annals of
    Mathematical Statistics 19, 1948.
    """
    at = np.concatenate((first, second))
    below_first = np.searchsorted(first, at, side="right") / len(first)
    below_second = np.searchsorted(second, at, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def ks_p_value(statistic: Float64, size: Float64) -> Float64:
    """The chance of a Kolmogorov-Smirnov statistic at least this large between samples of one distribution.

    Asymptotic, with Stephens' correction for small samples; where values are tied, the chance is smaller than this.

    Args:
        statistic: float64 [k].
        size: float64 [k], n m / (n + m) of the samples' sizes.

    References: M. A. Stephens: Use of the Kolmogorov-Smirnov, Cramér-von Mises and Related Statistics without Extensive
    Tables. Journal of the Royal Statistical Society B 32, 1970.
    """
    root = np.sqrt(size)
    z = (root + 0.12 + 0.11 / root) * statistic
    series = _SIGNS @ np.exp(-2 * np.outer(_TERMS**2, z**2))
    return np.where(z < 0.2, 1.0, np.clip(series, 0.0, 1.0))  # below 0.2 the chance is 1 to 12 digits


def psi_p_value(index: Float64, size: Float64, bins: Int64) -> Float64:
    """The chance of a population stability index at least this large between samples of one distribution.

    The index times n m / (n + m) is then distributed like chi-square with bins - 1 degrees of freedom, whose tail is
    taken from Wilson and Hilferty's cube root: with few bins, small chances come out several times too large.

    Args:
        index: float64 [k].
        size: float64 [k], n m / (n + m) of the samples' sizes.
        bins: int64 [k], those that are in use.

    References: B. Yurdakul, J. Naranjo: Statistical Properties of the Population Stability Index. Journal of Risk Model
    Validation 14, 2020. E. B. Wilson, M. M. Hilferty: The Distribution of Chi-Square. PNAS 17, 1931.
    """
    freedom = np.maximum(bins - 1, 1)
    spread = 2 / (9 * freedom)
    z = (np.cbrt(index * size / freedom) - (1 - spread)) / np.sqrt(spread)
    return np.array([math.erfc(each / math.sqrt(2)) / 2 for each in z.tolist()])


def effective_rows(columns: Float32, keys: Int64) -> Float64:
    """How many independent rows are worth as much as these, of which those with equal keys are alike.

    A mean over n rows has a variance as if they were n / deff independent ones; the design effect deff is estimated
    from the rows' ranks: the sum over keys of the squared sum of deviations, by the sum of the squared deviations.

    Args:
        columns: float32 [k, n].
        keys: int64 [n].

    Returns:
        float64 [k], from 1 to n.

    References: L. Kish: Survey Sampling. Wiley, 1965, chapter 5 (the design effect of clusters).
    """
    n = columns.shape[1]
    by_key = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], np.diff(keys[by_key]) != 0)))
    if len(starts) == 1:
        return np.ones(len(columns))
    ranks = _ranks(columns)[:, by_key]
    ranks -= ranks.mean(axis=1, keepdims=True)
    between = (np.add.reduceat(ranks, starts, axis=1) ** 2).sum(axis=1) * len(starts) / (len(starts) - 1)
    within = (ranks**2).sum(axis=1)
    effect = np.divide(between, within, out=np.ones(len(columns)), where=within > 0)
    rows: Float64 = n / np.maximum(effect, 1.0)
    return rows


def _ranks(columns: Float32) -> Float64:
    """float64 [k, n]: each value's rank in its row, tied ones' the mean of theirs; NaN is the largest."""
    ranks = np.empty(columns.shape)
    for row, values in enumerate(columns):
        ordered = np.sort(values)
        first = np.searchsorted(ordered, values, side="left")
        ranks[row] = (first + np.searchsorted(ordered, values, side="right")) / 2
    return ranks
