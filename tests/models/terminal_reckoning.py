"""Terminal history as a plain reckoning over all transactions and labels, and what makes both for it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.fraud.terminals import TerminalHistory

DAY = 86_400_000
WEEK = 7 * DAY
MONTH = 30 * DAY
START = 1_700_000_000_000
WILD = START + 1000 * 365 * DAY

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


def sell(
    history: TerminalHistory, times: Iterable[int], terminal: bytes = b"a", source: int = 0, start: int = 0
) -> None:
    """Transactions of one terminal; each one's hash is its offset."""
    moments = list(times)
    apply(history, ("append", [Transaction(source, start + i, terminal, t, start + i) for i, t in enumerate(moments)]))


def judge(history: TerminalHistory, *labels: tuple[int, int, bool, int], terminal: bytes = b"a") -> None:
    """Labels as (time, hash, fraud, label time)."""
    apply(history, ("label", [Label(terminal, *label) for label in labels]))
