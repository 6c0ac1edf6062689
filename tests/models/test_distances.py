"""Distances between samples and their chances, against SciPy and against reckoning them bin by bin."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from models import distances

Float32 = NDArray[np.float32]

SAMPLES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.lognormal(sigma=2, size=n),
    "counts": lambda rng, n: rng.poisson(3, n),
    "many counts": lambda rng, n: rng.poisson(40, n),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0, rng.exponential(size=n)),
    "mostly the largest": lambda rng, n: np.where(rng.random(n) < 0.97, 99, rng.random(n) * 30),
    "an atom in the middle": lambda rng, n: np.where(rng.random(n) < 0.5, 5, rng.normal(5, 2, n)),
    "constant": lambda rng, n: np.full(n, 7.25),
}


def draw(kind: str, n: int, seed: int) -> Float32:
    return np.sort(SAMPLES[kind](np.random.default_rng(seed), n).astype(np.float32))


def plain_psi(reference: Float32, values: Float32) -> float:
    """By the definition, a value at a time: the bin of a value is the first whose end is not below it."""
    edges = distances.cuts(reference).tolist()

    def bin_of(value: float) -> int:
        if math.isnan(value):
            return len(edges)
        if value < reference[0]:
            return -1
        return next((at for at, edge in enumerate(edges) if value <= edge), len(edges))

    old, new = Counter(map(bin_of, reference.tolist())), Counter(map(bin_of, values.tolist()))
    total = 0.0
    for each in range(-1, len(edges) + 1):
        p, q = old[each] / len(reference) + 0.001, new[each] / len(values) + 0.001
        total += (p - q) * math.log(p / q)
    return total


def index(reference: Float32, values: Float32) -> float:
    edges = distances.cuts(reference)
    counts = [distances.bin_counts(each, edges, reference[0]) for each in (reference, values)]
    return distances.psi(*counts)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("other", ["the same", "moved", "wider", "counts", "constant"])
def test_both_distances_are_those_of_their_definitions(kind: str, other: str) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the extra `train`")
    reference, values = draw(kind, 900, 0), draw(kind, 700, 1)
    if other == "moved":
        values = values + np.float32(0.3)
    elif other == "wider":
        values = np.sort(values * np.float32(1.5))
    elif other != "the same":
        values = draw(other, 700, 2)
    assert distances.ks(reference, values) == pytest.approx(stats.ks_2samp(reference, values).statistic, abs=1e-12)
    assert index(reference, values) == pytest.approx(plain_psi(reference, values), abs=1e-12)


@pytest.mark.parametrize("kind", SAMPLES)
def test_bins_hold_all_values_and_about_as_many_each(kind: str) -> None:
    reference = draw(kind, 1000, 0)
    edges = distances.cuts(reference)
    counts = distances.bin_counts(reference, edges, reference[0])
    assert counts.sum() == 1000
    assert counts[0] == counts[-1] == 0
    assert (counts[1:-1] > 0).all()
    atoms = np.unique(reference, return_counts=True)[1]
    assert counts.max() <= 100 + atoms.max()


def test_a_frequent_value_does_not_hide_the_rare_ones_beside_it() -> None:
    reference = draw("mostly the largest", 1000, 0)
    rare = int((reference < 99).sum())
    assert 10 < rare < 50
    edges = distances.cuts(reference)
    assert distances.bin_counts(reference, edges, reference[0]).tolist()[1:-1] == [rare, 1000 - rare]
    assert index(reference, np.full(1000, 99, np.float32)) > 0.05


def test_what_is_outside_or_missing_counts() -> None:
    reference = draw("constant", 500, 0)
    same = reference.copy()
    assert index(reference, same) == distances.ks(reference, same) == 0
    for odd in (7.0, 7.5, np.inf, -np.inf, np.nan):
        values = same.copy()
        values[:50] = odd
        values.sort()
        assert distances.ks(reference, values) == pytest.approx(0.1)
        assert index(reference, values) > 0.3


def test_the_chance_of_a_ks_statistic_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the extra `train`")
    for size, tolerance in ((50, 0.04), (500, 0.02), (5000, 0.005)):
        statistic = np.linspace(0.01, 6, 200) / np.sqrt(size)
        expected = stats.kstwo.sf(statistic, size)
        got = distances.ks_p_value(statistic, np.full(200, float(size)))
        seen = expected > 1e-9
        np.testing.assert_allclose(got[seen], expected[seen], rtol=30 * tolerance, atol=1e-7)
        assert (np.abs(got - expected) < tolerance).all()
    assert distances.ks_p_value(np.array([0.0, 1.0]), np.array([1000.0, 1000.0])).tolist() == [1.0, 0.0]


def test_ks_chances_are_even_where_nothing_differs() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        first, second = np.sort(rng.normal(size=300)), np.sort(rng.normal(size=200))
        statistic = distances.ks(first.astype(np.float32), second.astype(np.float32))
        found.append(float(distances.ks_p_value(np.array([statistic]), np.array([120.0]))[0]))
    assert np.mean(np.array(found) < 0.1) == pytest.approx(0.1, abs=0.04)
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.08)


def test_the_chance_of_a_psi_is_that_of_chi_square() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the extra `train`")
    index = np.linspace(0.0, 0.2, 60)
    for bins in (2, 3, 10, 20):
        got = distances.psi_p_value(index, np.full(60, 400.0), np.full(60, bins))
        expected = stats.chi2.sf(index * 400, bins - 1)
        assert np.abs(got - expected).max() < 0.05
        tail = (expected > 1e-7) & (expected < 1e-3)  # alarms are decided at about 1e-5
        assert tail.any()
        assert (got[tail] / expected[tail]).max() < (10 if bins < 10 else 2)
        assert (got[tail] / expected[tail]).min() > 0.8


def test_the_mean_psi_where_nothing_differs_is_its_expectation() -> None:
    rng = np.random.default_rng(4)
    reference = np.sort(rng.normal(size=2000)).astype(np.float32)
    found = [index(reference, np.sort(rng.normal(size=1000)).astype(np.float32)) for _ in range(300)]
    fresh = [
        index(np.sort(rng.normal(size=2000)).astype(np.float32), np.sort(rng.normal(size=1000)).astype(np.float32))
        for _ in range(300)
    ]
    expected = 9 * (1 / 1000 + 1 / 2000)
    assert np.mean(fresh) == pytest.approx(expected, rel=0.1)
    assert np.mean(found) < 2 * expected


def test_rows_that_are_alike_are_worth_fewer() -> None:
    rng = np.random.default_rng(5)
    keys = np.repeat(np.arange(400), 5)
    own, shared = rng.normal(size=2000), np.repeat(rng.normal(size=400), 5)
    columns = np.stack((own, shared, own + shared, np.ones(2000))).astype(np.float32)
    order = rng.permutation(2000)
    got = distances.effective_rows(columns[:, order], keys[order])
    assert got[0] == pytest.approx(2000, rel=0.15)
    assert got[1] == pytest.approx(400, rel=0.05)
    assert got[2] == pytest.approx(2000 / (1 + 4 * 0.5), rel=0.15)  # half of the variance is the key's
    assert got[3] == 2000
    assert (got <= 2000).all()
    assert distances.effective_rows(columns, np.zeros(2000, np.int64)).tolist() == [1] * 4
    extremes = np.where(keys % 2, np.iinfo(np.int64).max, np.iinfo(np.int64).min)
    assert (distances.effective_rows(columns, extremes) >= 1).all()
