"""Terminal history against the reckoning, and against the handbook's columns on its public transactions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fraud.terminals import TerminalHistory
from tests.models.terminal_reckoning import (
    DAY,
    MONTH,
    START,
    WEEK,
    Label,
    Reckoning,
    Transaction,
    apply,
    ask,
    make_labels,
    make_queries,
    make_steps,
    make_transactions,
)

SHARED = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"


@pytest.mark.parametrize("seed", range(80))
def test_windows_and_snapshot_equal_the_reckoning(seed: int) -> None:
    rng = random.Random(seed)
    delay, lateness = rng.choice([0, DAY // 24, WEEK]), rng.choice([0, DAY, 5 * DAY])
    transactions = make_transactions(rng)
    steps = make_steps(rng, transactions, make_labels(rng, transactions, delay))
    history, reckoning = TerminalHistory(delay, lateness), Reckoning(delay, lateness)
    for step in steps:
        apply(history, step)
        reckoning.apply(step)
        queries = make_queries(rng, transactions, delay)[:20]
        assert ask(history, queries).tolist() == reckoning.windows(queries)
    assert history.snapshot() == reckoning.held()
    queries = make_queries(rng, transactions, delay)
    assert ask(history, queries).tolist() == reckoning.windows(queries)


@pytest.mark.parametrize("seed", range(30))
def test_neither_order_nor_batches_nor_repeats_matter(seed: int) -> None:
    rng = random.Random(seed)
    transactions = make_transactions(rng)
    labels = make_labels(rng, transactions, WEEK)
    queries = make_queries(rng, transactions, WEEK)
    one, other = TerminalHistory(), TerminalHistory()
    for step in make_steps(rng, transactions, labels):
        apply(one, step)
    for step in make_steps(rng, transactions, rng.sample(labels + labels, 2 * len(labels))):
        apply(other, step)
    assert one.snapshot() == other.snapshot()
    assert ask(one, queries).tolist() == ask(other, queries).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_large_and_small_terminals_grow_beside_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 30_000
    times = START + np.sort(rng.integers(0, 50 * DAY, n))
    numbers = np.where(rng.random(n) < 0.7, rng.geometric(0.6, n), rng.integers(20, 500, n))
    terminals = [b"%d" % number for number in numbers.tolist()]
    fraud, label_times, hashes = rng.random(n) < 0.2, times + rng.integers(0, 15 * DAY, n), rng.integers(0, 9, n)
    history, reckoning = TerminalHistory(lateness_ms=5 * DAY), Reckoning(WEEK, 5 * DAY)
    start = 0
    while start < n:
        end = min(n, start + int(rng.integers(3, 3000)))
        for source in rng.permutation(min(3, end - start)).tolist():
            chosen = range(start + source, end, 3)
            keys = [(terminals[i], int(times[i]), int(hashes[i])) for i in chosen]
            labels = [Label(*key, bool(fraud[i]), int(label_times[i])) for key, i in zip(keys, chosen, strict=True)]
            transactions = [Transaction(source, i, *key) for key, i in zip(keys, chosen, strict=True)]
            for step in (("label", labels[::2]), ("append", transactions), ("label", labels)):
                apply(history, step)
                reckoning.apply(step)
        start = end
    assert history.snapshot() == reckoning.held()
    queries = [(terminals[i], int(times[i]) + int(rng.integers(0, 9 * DAY))) for i in rng.integers(n - 5000, n, 500)]
    assert ask(history, queries).tolist() == reckoning.windows(queries)


def test_one_terminal_with_200_000_transactions_from_sources_days_apart() -> None:
    n, rng = 200_000, np.random.default_rng(1)
    times = START + np.sort(rng.integers(0, 37 * DAY, n))
    fraud = rng.random(n) < 0.3
    label_times = times + rng.integers(0, 20 * DAY, n)
    hashes = rng.integers(-(2**63), 2**63 - 1, n)
    history = TerminalHistory()
    ends = [(source, start) for start in range(0, n // 4, 5000) for source in range(4)]
    for source, start in ends:
        chosen = np.arange(source, n, 4)[start : start + 5000]
        history.append(source, chosen, [b"shop"] * len(chosen), times[chosen], hashes[chosen])
        shuffled = rng.permutation(chosen)
        history.label([b"shop"] * len(chosen), *(a[shuffled] for a in (times, hashes, fraud, label_times)))
    assert history.nbytes < 32 * n * 1.4 + 100_000
    now = START + rng.integers(0, 40 * DAY, 200)
    rows = history.windows([b"shop"] * len(now), now)
    for t, row in zip(now, rows, strict=True):
        for i, window in enumerate((DAY, WEEK, MONTH)):
            inside = (times > t - WEEK - window) & (times <= t - WEEK)
            frauds = np.count_nonzero(inside & fraud & (label_times <= t))
            count = np.count_nonzero(inside)
            assert row[2 * i : 2 * i + 2].tolist() == [count, frauds / count if count else 0]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the public transactions in ../shared/data")
def test_the_public_transactions_get_the_columns_of_the_handbook() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(SHARED, columns=["TX_DATETIME", "TERMINAL_ID", "TX_FRAUD", "TRANSACTION_ID"])
    times = table["TX_DATETIME"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    numbers, fraud = table["TERMINAL_ID"].to_numpy().astype(np.int64), table["TX_FRAUD"].to_numpy() == 1
    hashes = table["TRANSACTION_ID"].to_numpy().astype(np.int64) * 0x5DEECE66D
    names = [b"%d" % number for number in numbers.tolist()]
    n, labelled = len(times), 0
    label_times = times + WEEK
    history = TerminalHistory()
    answers = []
    for start in range(0, n, 4096):
        rows = slice(start, start + 4096)
        history.append(0, np.arange(n)[rows], names[rows], times[rows], hashes[rows])
        due = slice(labelled, int(np.searchsorted(label_times, times[rows][-1], "right")))
        history.label(names[due], times[due], hashes[due], fraud[due], label_times[due])
        labelled = due.stop
        answers.append(history.windows(names[rows], times[rows])[:, :6])
    assert history.nbytes < 25e6
    assert (history.waiting, history.expired) == (0, 0)
    got = np.concatenate(answers)

    place = numbers * 10**13 + times  # sorted by terminal, then time
    order = np.argsort(place, kind="stable")
    ordered, frauds = place[order], np.append(0, np.cumsum(fraud[order]))

    def rolling(window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of transactions and of frauds in (t - window, t]."""
        first, end = np.searchsorted(ordered, place - window, "right"), np.searchsorted(ordered, place, "right")
        first = np.maximum(first, np.searchsorted(ordered, numbers * 10**13))
        return end - first, frauds[end] - frauds[first]

    for i, days in enumerate((1, 7, 30)):
        counts, of_fraud = (np.subtract(*pair) for pair in zip(rolling(WEEK + days * DAY), rolling(WEEK), strict=True))
        share = np.divide(of_fraud, counts, out=np.zeros(n), where=counts > 0)
        assert np.array_equal(got[:, 2 * i], counts)
        assert np.abs(got[:, 2 * i + 1] - share).max() < 1e-6
