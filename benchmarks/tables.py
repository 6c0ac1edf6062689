"""The table of terminals: what each event costs the worker that owns it, and each other worker that must know it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from rich import box
from rich.table import Table

from models.fraud import ledger
from models.fraud.blocks import DAY_MS
from models.fraud.hashes import transaction_hashes
from models.fraud.terminals import TerminalHistory, warm_up
from streams.pipelines.fraud.table import DELAY_MS, LATENESS_MS

FIRST_EVENT_TIME_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
DAYS = 37  # what windows look back on
SLICE = 4096
LABELLED = 0.01
SMALL, LARGE = (10_000, 350_000), (1_000_000, 10_000_000)
"""Terminals, and their transactions in 37 days."""


@dataclass(frozen=True)
class Costs:
    """Microseconds an event, and bytes.

    Args:
        own_us: the owner's: into its table, and packed for the log.
        log_bytes: of an event in the log.
        follow_us: another worker's, or one's that restarts: out of the log, into the table.
        ask_us: the ten windows of one event.
        table_bytes: held for an event, in every worker.
    """

    terminals: int
    transactions: int
    own_us: float
    log_bytes: float
    follow_us: float
    ask_us: float
    table_bytes: float

    def answer(self) -> dict[str, float]:
        """The machine-readable answer."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def run(sizes: tuple[tuple[int, int], ...], said: Callable[[str], None]) -> list[Costs]:
    """Fill the table of an owner and of a follower."""
    warm_up()
    return [_measure(*size, said) for size in sizes]


def _measure(terminals: int, transactions: int, said: Callable[[str], None]) -> Costs:
    said(f"{transactions:,} transactions of {terminals:,} terminals")
    own, other = (TerminalHistory(DELAY_MS, LATENESS_MS) for _ in range(2))
    spent = dict.fromkeys(("own", "follow", "ask"), 0.0)
    log_bytes = 0
    for entries in _entries(terminals, transactions):
        started = time.perf_counter()
        own.append(0, entries.offsets, entries.terminals, entries.event_time_ms, entries.transaction_hash)
        values = ledger.encode(entries)
        spent["own"] += time.perf_counter() - started
        log_bytes += sum(map(len, values))
        started = time.perf_counter()
        for value in values:
            read = ledger.decode(value)
            other.append(0, read.offsets, read.terminals, read.event_time_ms, read.transaction_hash)
        spent["follow"] += time.perf_counter() - started
        late = np.arange(len(entries.offsets)) < LABELLED * len(entries.offsets)
        own.label(
            entries.terminals[: late.sum()],
            entries.event_time_ms[late],
            entries.transaction_hash[late],
            np.ones(late.sum(), np.bool_),
            entries.event_time_ms[late] + DELAY_MS,
        )
        started = time.perf_counter()
        own.windows(entries.terminals, entries.event_time_ms)
        spent["ask"] += time.perf_counter() - started
    each = {name: seconds / transactions * 1e6 for name, seconds in spent.items()}
    return Costs(
        terminals,
        transactions,
        each["own"],
        log_bytes / transactions,
        each["follow"],
        each["ask"],
        own.nbytes / transactions,
    )


def _entries(terminals: int, transactions: int) -> Iterator[ledger.Entries]:
    draw, names = np.random.default_rng(0), [b"m%07d" % number for number in range(terminals)]
    for start in range(0, transactions, SLICE):
        offsets = np.arange(start, min(start + SLICE, transactions))
        ids = [b"t%09d" % offset for offset in offsets.tolist()]
        places = [names[place] for place in draw.integers(0, terminals, len(offsets)).tolist()]
        times = FIRST_EVENT_TIME_MS + offsets * (DAYS * DAY_MS) // transactions
        yield ledger.Entries(offsets, places, times, transaction_hashes(ids, ids))


def table(found: list[Costs]) -> Table:
    """Draw the results for a terminal of 80 columns."""
    drawn = Table(title="The table of terminals, one process", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("terminals", "events", "own µs", "log B", "follow µs", "ask µs", "held B", "MB"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        drawn.add_row(
            f"{each.terminals:,}",
            f"{each.transactions:,}",
            f"{each.own_us:.2f}",
            f"{each.log_bytes:.0f}",
            f"{each.follow_us:.2f}",
            f"{each.ask_us:.2f}",
            f"{each.table_bytes:.0f}",
            f"{each.table_bytes * each.transactions / 1e6:,.0f}",
        )
    return drawn
