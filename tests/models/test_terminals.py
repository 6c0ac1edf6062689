"""Terminal history against a plain reckoning over all transactions and labels."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fraud.terminals import COLUMNS, TerminalHistory, warm_up

DAY = 86_400_000
WEEK = 7 * DAY
MONTH = 30 * DAY
START = 1_700_000_000_000
WILD = START + 1000 * 365 * DAY
SHARED = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"

Key = tuple[bytes, int, int]


class Transaction(NamedTuple):
    source: int
    offset: int
    terminal: bytes
    time: int
    hash: int


class Label(NamedTuple):
    terminal: bytes
    time: int
    hash: int
    fraud: bool
    label_time: int


Step = tuple[str, Sequence[Any]]  # "append" transactions of one source, or "label"


@dataclass
class Reckoning:
    """All that has come, and what follows from it."""

    delay: int
    lateness: int
    transactions: dict[tuple[int, int], Key] = field(default_factory=dict)
    labels: dict[Key, tuple[int, bool]] = field(default_factory=dict)

    def apply(self, step: Step) -> None:
        for each in step[1]:
            if isinstance(each, Transaction):
                self.transactions.setdefault((each.source, each.offset), (each.terminal, each.time, each.hash))
            else:
                key = each.terminal, each.time, each.hash
                new = each.label_time, each.fraud
                self.labels[key] = max(self.labels.get(key, new), new)

    @property
    def horizon(self) -> int:
        top = heapq.nlargest(16, (time for _, time, _ in self.transactions.values()))
        return top[-1] - self.delay - MONTH - self.lateness if len(top) == 16 else -(10**30)

    def held(self) -> dict[bytes, list[tuple[int, int, int | None, bool]]]:
        horizon, held = self.horizon, dict[bytes, list[tuple[int, int, int | None, bool]]]()
        for terminal, time, number in sorted(self.transactions.values()):
            if time > horizon:
                label = self.labels.get((terminal, time, number), (None, False))
                held.setdefault(terminal, []).append((time, number, *label))
        return held

    def windows(self, queries: Sequence[tuple[bytes, int]]) -> list[list[float]]:
        held = self.held()
        return [self._answer(held.get(terminal, []), t) for terminal, t in queries]

    def _answer(self, entries: list[tuple[int, int, int | None, bool]], t: int) -> list[float]:
        known = [
            (time, fraud and label_time is not None and label_time <= t)
            for time, _, label_time, fraud in entries
            if t - self.delay - MONTH < time <= t - self.delay
        ]
        row: list[float] = []
        for window in (DAY, WEEK, MONTH):
            inside = [fraud for time, fraud in known if time > t - self.delay - window]
            row += [len(inside), sum(inside) / len(inside) if inside else 0]
        run = []
        for time, fraud in known[:-65:-1]:
            if not fraud:
                break
            run.append(time)
        frauds = [time for time, fraud in known if fraud]
        genuine = [time for time, fraud in known[-64:] if not fraud]
        row += [len(run), age(t, run[-1:]), age(t, frauds[-1:]), age(t, genuine[-1:])]
        return row


def age(t: int, times: Sequence[int]) -> float:
    return min((t - times[0]) / DAY, 99) if times else 99


def apply(history: TerminalHistory, step: Step) -> None:
    kind, items = step
    terminals = [each.terminal for each in items]
    times, hashes = column(each.time for each in items), column(each.hash for each in items)
    if kind == "append":
        history.append(items[0].source, column(each.offset for each in items), terminals, times, hashes)
    else:
        frauds = np.array([each.fraud for each in items], np.bool_)
        history.label(terminals, times, hashes, frauds, column(each.label_time for each in items))


def column(values: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(values), np.int64)


def ask(history: TerminalHistory, queries: Sequence[tuple[bytes, int]]) -> NDArray[np.float64]:
    return history.windows([terminal for terminal, _ in queries], column(t for _, t in queries))


def make_transactions(rng: random.Random) -> list[Transaction]:
    """Of a few terminals and sources, with ties in time, equal hashes, wild times, and sources that are days behind."""
    terminals, sources = rng.choice([1, 3, 20]), rng.choice([1, 3])
    step = rng.choice([DAY // 50, DAY // 5, DAY])
    start = rng.choice([START, -20 * DAY])
    late = rng.choice([0, DAY // 24, 5 * DAY, 50 * DAY])
    wild = rng.choice([0, 0, 0.02])
    made = []
    for i in range(rng.choice([60, 300])):
        source = rng.randrange(sources)
        time = WILD + i if rng.random() < wild else start + i // 3 * 3 * step - int(rng.random() ** 4 * late)
        time -= source * late // 7
        made.append(Transaction(source, 2 * i, b"shop\x00%d" % rng.randrange(terminals), time, rng.randrange(-2, 3)))
    return made


def make_labels(rng: random.Random, transactions: Sequence[Transaction], delay: int) -> list[Label]:
    """Of most transactions and of some that never come; some twice, some contradicting."""
    share = rng.choice([0.05, 0.5, 0.97])
    lags = rng.choice([[delay], [0, delay, delay + 1], [delay, 3 * delay + DAY, 60 * DAY], [-DAY, 1000 * 365 * DAY, 0]])
    made = []
    for each in transactions:
        made += [
            Label(each.terminal, each.time, each.hash, rng.random() < share, each.time + rng.choice(lags))
            for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))
        ]
        if rng.random() < 0.05:
            made.append(Label(each.terminal, each.time + 1, each.hash, True, each.time + delay))
    return made


def make_steps(rng: random.Random, transactions: Sequence[Transaction], labels: Sequence[Label]) -> list[Step]:
    """Batches in which every source is in order, cut anyhow, a tail repeated now and then, labels in between."""
    steps: list[Step] = []
    queues = {source: [each for each in transactions if each.source == source] for source in range(3)}
    at = dict.fromkeys(queues, 0)
    rest = rng.sample(labels, len(labels)) if rng.random() < 0.5 else list(labels)
    while rest or any(at[source] < len(queue) for source, queue in queues.items()):
        source = rng.randrange(4)
        if source == 3:
            size = rng.randrange(1, 80)
            part, rest = rest[:size], rest[size:]
            steps += [("label", part)] if part else []
        else:
            start = max(0, at[source] - rng.choice([0, 0, 7]))
            batch = queues[source][start : start + rng.randrange(1, 80)]
            at[source] = max(at[source], start + len(batch))
            steps += [("append", batch)] if batch else []
    return steps


def make_queries(rng: random.Random, transactions: Sequence[Transaction], delay: int) -> list[tuple[bytes, int]]:
    """At the edges of windows, and anywhere."""
    edges = [0, delay, delay + DAY, delay + WEEK, delay + MONTH]
    queries = [(b"nobody", START)]
    for each in rng.sample(transactions, min(40, len(transactions))):
        queries.append((each.terminal, each.time + rng.choice(edges) + rng.choice([-1, 0, 0, 1])))
        queries.append((each.terminal, each.time + rng.randrange(90 * DAY)))
    return queries


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


def sell(
    history: TerminalHistory, times: Iterable[int], terminal: bytes = b"a", source: int = 0, start: int = 0
) -> None:
    """Transactions of one terminal; each one's hash is its offset."""
    moments = list(times)
    apply(history, ("append", [Transaction(source, start + i, terminal, t, start + i) for i, t in enumerate(moments)]))


def judge(history: TerminalHistory, *labels: tuple[int, int, bool, int], terminal: bytes = b"a") -> None:
    """Labels as (time, hash, fraud, label time)."""
    apply(history, ("label", [Label(terminal, *label) for label in labels]))


def test_what_the_columns_say() -> None:
    history = TerminalHistory()
    sell(history, [START, START + DAY, START + 2 * DAY, START + 3 * DAY, START + 12 * DAY])
    judge(history, *((START + day * DAY, day, day in (0, 2, 3), START + day * DAY + WEEK) for day in range(4)))
    (row,) = ask(history, [(b"a", START + 10 * DAY)])
    assert dict(zip(COLUMNS, row.tolist(), strict=True)) == {
        "count_1d": 1, "fraud_share_1d": 1, "count_7d": 4, "fraud_share_7d": 0.75,
        "count_30d": 4, "fraud_share_30d": 0.75,
        "run": 2, "run_age_days": 8, "last_fraud_age_days": 7, "last_genuine_age_days": 9,
    }  # fmt: skip
    nothing = [0, 0, 0, 0, 0, 0, 0, 99, 99, 99]
    assert ask(history, [(b"a", START + WEEK - 1), (b"b", START)]).tolist() == [nothing, nothing]


def test_a_label_counts_from_its_own_time_on() -> None:
    history = TerminalHistory()
    sell(history, [START, START + 1])
    judge(history, (START, 0, True, START + 9 * DAY))
    shares = ask(history, [(b"a", START + 9 * DAY - 1), (b"a", START + 9 * DAY)])[:, 5]
    assert shares.tolist() == [0, 0.5]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("one", "two", "fraud"),
    [((True, 3), (False, 4), False), ((False, 3), (True, 4), True), ((True, 3), (False, 3), True)],
)
def test_of_contradicting_labels_the_later_one_counts(
    one: tuple[bool, int], two: tuple[bool, int], fraud: bool, first: bool, together: bool, swap: bool
) -> None:
    history = TerminalHistory()
    labels = [(START, 0, says, START + days * DAY) for says, days in ((two, one) if swap else (one, two))]
    if not first:
        sell(history, [START])
    if together:
        judge(history, *labels)
    else:
        judge(history, labels[0])
        judge(history, labels[1])
    if first:
        assert history.waiting == 1
        sell(history, [START])
    assert history.snapshot() == {b"a": [(START, 0, START + max(one[1], two[1]) * DAY, fraud)]}
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [1, fraud]
    assert (history.waiting, history.expired) == (0, 0)


def test_a_label_goes_to_its_own_transaction_alone() -> None:
    history = TerminalHistory()
    apply(history, ("append", [Transaction(0, i, b"a", START, i // 2) for i in range(4)]))
    judge(history, (START, 0, True, START))
    judge(history, (START, 5, True, START), (START + 1, 1, True, START))
    judge(history, (START, 1, True, START), terminal=b"b")
    assert [fraud for *_, fraud in history.snapshot()[b"a"]] == [True, True, False, False]
    assert history.waiting == 3
    apply(history, ("append", [Transaction(1, 0, b"a", START, 0), Transaction(1, 1, b"a", START, 5)]))
    assert [fraud for *_, fraud in history.snapshot()[b"a"]] == [True, True, True, False, False, True]
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [6, 4 / 6]
    judge(history, (START, 0, False, START + 1))
    assert ask(history, [(b"a", START + WEEK)])[0, :2].tolist() == [6, 1 / 6]


def test_offsets_are_of_their_source() -> None:
    history = TerminalHistory()
    sell(history, [START, START + 1], source=0)
    sell(history, [START, START + 1, START + 2], source=1)
    sell(history, [START + 5, START + 6, START + 7, START + 8], source=0)
    assert [time - START for time, *_ in history.snapshot()[b"a"]] == [0, 0, 1, 1, 2, 7, 8]
    history.append(2, np.array([5, 3, 5, 6]), [b"c"] * 4, np.array([1, 2, 3, 4]), np.zeros(4, np.int64))
    assert [time for time, *_ in history.snapshot()[b"c"]] == [1, 4]


def test_labels_that_never_meet_their_transaction_expire() -> None:
    history = TerminalHistory()
    sell(history, [START + i for i in range(16)], terminal=b"busy")
    for i in range(100):
        judge(history, (START, i, True, START + i), terminal=b"%d" % (i % 50))
    judge(history, (START, 500, True, START), terminal=b"met")
    assert (history.waiting, history.expired, len(history)) == (101, 0, 52)
    sell(history, [START], terminal=b"met", source=1, start=500)
    sell(history, [START + 38 * DAY - 1] * 16, terminal=b"busy", start=16)
    assert (history.waiting, history.expired) == (100, 0)
    sell(history, [START + 38 * DAY] * 16, terminal=b"busy", start=32)
    for i in range(10):
        sell(history, [START + 38 * DAY], terminal=b"busy", start=48 + i)
    assert (history.waiting, history.expired, len(history)) == (0, 100, 1)
    judge(history, (START, 0, True, START), (START + 1, 0, True, START), terminal=b"x")
    assert (history.waiting, history.expired, len(history)) == (1, 101, 2)


def test_a_run_is_followed_for_64_transactions() -> None:
    history = TerminalHistory()
    sell(history, [START + i * 1000 for i in range(100)])
    judge(history, *((START + i * 1000, i, i >= 10, START) for i in range(100)))
    t = START + 99_000 + WEEK
    assert ask(history, [(b"a", t)])[0, 6:10].tolist() == [64, (t - START - 36_000) / DAY, 7, 99]
    judge(history, (START + 36_000, 36, False, START + 1))
    assert ask(history, [(b"a", t)])[0, 6:10].tolist() == [
        63,
        (t - START - 37_000) / DAY,
        7,
        (t - START - 36_000) / DAY,
    ]


def test_fifteen_wild_times_expire_nothing_and_sixteen_do() -> None:
    history = TerminalHistory()
    sell(history, [START] * 100)
    sell(history, [WILD] * 15, terminal=b"b", start=100)
    assert (len(history), len(history.snapshot()[b"a"])) == (2, 100)
    assert ask(history, [(b"a", START + WEEK)])[0, 0] == 100
    sell(history, [WILD], terminal=b"b", start=115)
    assert (len(history), list(history.snapshot())) == (1, [b"b"])
    assert ask(history, [(b"a", START + WEEK)])[0, 0] == 0
    sell(history, [START], start=116)
    assert len(history) == 1


def test_any_time_and_any_key_are_answered() -> None:
    limit = 1 << 60
    history = TerminalHistory()
    times = [-limit, -1, 0, 1, limit]
    sell(history, times, terminal=b"")
    judge(history, *((time, i, True, lag) for i, time in enumerate(times) for lag in (-limit, limit)), terminal=b"")
    rows = ask(history, [(b"", time) for time in times])
    assert rows[-1, 8] == 99
    assert ask(history, [(b"", WEEK)])[0, :6].tolist() == [2, 0, 2, 0, 2, 0]
    assert [fraud for *_, fraud in history.snapshot()[b""]] == [True] * 5


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


def trade(history: TerminalHistory, days: range, terminals: Callable[[int], bytes]) -> None:
    """A thousand transactions a day, all labelled a week later, a tenth of them fraud."""
    for day in days:
        names = [terminals(1000 * day + i) for i in range(1000)]
        times, hashes = START + day * DAY + np.arange(1000) * 1000, np.arange(1000)
        history.append(0, 1000 * day + hashes, names, times, hashes)
        if day >= 7:
            names = [terminals(1000 * day - 7000 + i) for i in range(1000)]
            history.label(names, times - WEEK, hashes, hashes % 10 == 0, times)


def test_memory_stops_growing_where_terminals_come_and_go() -> None:
    history = TerminalHistory()
    trade(history, range(80), lambda i: b"%d" % (i // 3))
    terminals, size = len(history), history.nbytes
    trade(history, range(80, 240), lambda i: b"%d" % (i // 3))
    assert 38_000 / 3 <= min(terminals, len(history)) <= max(terminals, len(history)) <= 1.5 * 38_000 / 3
    assert history.nbytes <= 1.2 * size
    assert (history.waiting, history.expired) == (0, 0)


def test_memory_of_a_terminal_that_grows_quiet_is_given_back() -> None:
    history = TerminalHistory()
    trade(history, range(40), lambda _: b"busy")
    size = history.nbytes
    trade(history, range(40, 150), lambda i: b"busy" if i % 1000 == 0 else b"%d" % (i % 100))
    assert len(history) == 101
    assert len(history.snapshot()[b"busy"]) == 38
    trade(history, range(150, 200), lambda _: b"last")
    assert len(history) == 1
    assert history.nbytes <= 1.5 * size


def test_what_is_held_takes_less_than_twice_the_24_bytes_of_an_entry() -> None:
    history = TerminalHistory()
    for day in range(60):
        trade(history, range(day, day + 1), lambda i: b"%d" % (i % 100))
        if day > 10:
            assert history.nbytes < 48 * sum(map(len, history.snapshot().values())) + 20_000


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


def test_nothing_in_nothing_out() -> None:
    warm_up()
    history = TerminalHistory()
    none = np.zeros(0, np.int64)
    history.append(0, none, [], none, none)
    history.label([], none, none, none.astype(np.bool_), none)
    assert history.windows([], none).shape == (0, len(COLUMNS))
    assert (len(history), history.snapshot(), history.waiting, history.expired) == (0, {}, 0, 0)
    assert history.nbytes < 10_000


GOOD: dict[str, dict[str, Any]] = {
    "append": {
        "source": 0, "offsets": column([1]), "terminals": [b"a"], "event_time_ms": column([START]),
        "transaction_hash": column([1]),
    },
    "label": {
        "terminals": [b"a"], "event_time_ms": column([START]), "transaction_hash": column([1]),
        "fraud": np.array([True]), "label_time_ms": column([START]),
    },
    "windows": {"terminals": [b"a"], "event_time_ms": column([START])},
}  # fmt: skip


@pytest.mark.parametrize("method", GOOD)
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("event_time_ms", np.array([1.0]), "expected event_time_ms as int64 [1], got float64 [1]"),
        ("event_time_ms", column([1, 2]), "expected event_time_ms as int64 [1], got int64 [2]"),
        ("event_time_ms", [1], "expected event_time_ms as int64 [1], got [1]"),
        ("event_time_ms", column([(1 << 60) + 1]), "event_time_ms must be within"),
        ("label_time_ms", column([-(1 << 60) - 1]), "label_time_ms must be within"),
        ("fraud", column([1]), "expected fraud as bool [1], got int64 [1]"),
        ("offsets", np.array([1], np.int32), "expected offsets as int64 [1], got int32 [1]"),
        ("offsets", column([-1]), "offsets must not be negative"),
        ("transaction_hash", np.array([1], np.uint64), "expected transaction_hash as int64 [1], got uint64 [1]"),
        ("terminals", ["a"], "must be bytes, got 'a'"),
        ("terminals", [None], "must be bytes, got None"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(method: str, name: str, value: object, says: str) -> None:
    if name not in GOOD[method]:
        return
    history = TerminalHistory()
    sell(history, [START], terminal=b"b", source=0)
    before = history.snapshot()
    with pytest.raises(TypeError if name == "terminals" else ValueError) as caught:
        getattr(history, method)(**(GOOD[method] | {name: value}))
    assert says in str(caught.value)
    assert (history.snapshot(), len(history), history.waiting) == (before, 1, 0)
    history.append(**GOOD["append"])
    assert len(history) == 2


def test_spans_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match=r"delay_ms and lateness_ms must be within 0 and .* got -1 and 5"):
        TerminalHistory(-1, 5)


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
