"""Simulated card transactions: customers with habits, terminals on a plane, and three kinds of fraud.

Written from the public description of such a simulator in the Fraud Detection Handbook, with these differences:
event times are drawn at once from the whole day's distribution (nothing falls outside the day and is lost), customers
live in neighbourhoods of one unit square, one without a terminal in reach uses the nearest, the numbers of
compromised terminals and stolen cards per day are Poisson with a mean in proportion to the population, and both kinds
of fraud are already under way on the first day, so that the share of fraud does not drift.

References:
    Y.-A. Le Borgne, W. Siblini, B. Lebichot, G. Bontempi: Reproducible Machine Learning for Credit Card Fraud
    Detection - Practical Handbook. Université Libre de Bruxelles, 2022. Chapter 3, "Transaction data simulator".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from connectors.columns import Field
from connectors.contract import ConnectorError
from connectors.simulators.population import Population

FIELDS = (
    Field("transaction_id", "string"),
    Field("card_id", "string"),
    Field("terminal_id", "string"),
    Field("amount", "number"),
    Field("event_time", "time"),
    Field("currency", "string", required=False),
    Field("country", "string", required=False),
    Field("channel", "string", required=False),
    Field("mcc", "string", required=False),
)
"""What an event of the topic `transactions` holds; the simulator writes the required ones."""

LARGE_AMOUNT, COMPROMISED_TERMINAL, STOLEN_CARD = 1, 2, 3
STOLEN_SHARE = 1 / 3
STOLEN_FACTOR = 5
DAY_MS = 86_400_000

_NOON_S, _SPREAD_S = 43_200, 20_000
_BLOCK_TRANSACTIONS = 8_192  # the mean size of a block; a part of the seed's contract: another size, other events
_RECORD = b'{"transaction_id":"t%09d","card_id":"c%07d","terminal_id":"m%07d","amount":%d.%02d,"event_time":%d}'


class SimulatorError(ConnectorError, ValueError):
    """A simulator's setting is out of its range."""


@dataclass(frozen=True)
class TransactionSettings:
    """What a simulated stream of transactions looks like; the defaults give about 0.9 % fraud.

    Args:
        seed: Same settings and seed, same records, byte for byte (with one feature release of NumPy).
        customers: Cards; one a customer.
        terminals: Points of sale, spread evenly over a plane of 100 by 100 units.
        start: Midnight UTC of the first simulated day.
        max_transactions_per_day: A customer's mean number of transactions a day is drawn from (0, this).
        min_mean_amount: The lower bound of a customer's mean amount; its standard deviation is half its mean.
        max_mean_amount: The upper bound of a customer's mean amount.
        radius: A customer uses the terminals that are at most this far away, or else the nearest.
        large_amount: Fraud 1: every amount above this, which only the largest spenders' tails reach.
        terminal_compromise_rate: Fraud 2: the share of the terminals that is compromised each day, on average. All
            their transactions of the next `compromised_days` are fraud.
        compromised_days: How long a terminal stays compromised.
        card_theft_rate: Fraud 3: the share of the cards whose details are stolen each day, on average. Of their
            transactions in the next `stolen_days` a third are fraud, with five times the amount.
        stolen_days: How long a stolen card stays in use.

    Raises:
        SimulatorError: A value is out of range.
    """

    seed: int = 0
    customers: int = 5_000
    terminals: int = 10_000
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    max_transactions_per_day: float = 4.0
    min_mean_amount: float = 5.0
    max_mean_amount: float = 100.0
    radius: float = 5.0
    large_amount: float = 220.0
    terminal_compromise_rate: float = 0.0002
    compromised_days: int = 28
    card_theft_rate: float = 0.0006
    stolen_days: int = 14

    def __post_init__(self) -> None:
        self._check("seed", self.seed, 0, 2**32 - 1)
        self._check("customers", self.customers, 1, 1_000_000)
        self._check("terminals", self.terminals, 1, 100_000)
        self._check("max_transactions_per_day", self.max_transactions_per_day, 0.001, 1_000)
        self._check("min_mean_amount", self.min_mean_amount, 0.01, 1e9)
        self._check("max_mean_amount", self.max_mean_amount, self.min_mean_amount, 1e9)
        self._check("radius", self.radius, 1, 10)
        self._check("large_amount", self.large_amount, 0, math.inf)
        self._check("terminal_compromise_rate", self.terminal_compromise_rate, 0, 1)
        self._check("compromised_days", self.compromised_days, 1, 365)
        self._check("card_theft_rate", self.card_theft_rate, 0, 1)
        self._check("stolen_days", self.stolen_days, 1, 365)
        if self.start.utcoffset() != timedelta(0) or self.start.timestamp() % 86_400:
            raise SimulatorError(f"simulating transactions: expected `start` at midnight UTC, got {self.start}")

    @staticmethod
    def _check(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise SimulatorError(f"simulating transactions: expected `{name}` from {low} to {high}, got {value!r}")


@dataclass(frozen=True)
class TransactionBlock:
    """Consecutive transactions in the order of their event times; all columns have the same length.

    `amount` has two decimals and is at least 0.01; `event_time_ms` counts from the epoch, UTC; `scenario` is 0 for a
    genuine transaction, else the kind of fraud 1 to 3. Neither `fraud` nor `scenario` is part of the records.
    """

    transaction_id: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    scenario: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.transaction_id)

    def records(self) -> tuple[list[bytes], list[bytes]]:
        """The block on the wire: keys (card ids) and JSON values, as the topic `transactions` carries them.

        Formatting whole rows is twice as fast as msgspec structs, whose strings would have to be formatted first.
        """
        units, cents = np.divmod(np.rint(self.amount * 100).astype(np.int64), 100)
        columns = (self.transaction_id, self.customer, self.terminal, units, cents, self.event_time_ms)
        values = [_RECORD % row for row in zip(*(column.tolist() for column in columns), strict=True)]
        return [b"c%07d" % customer for customer in self.customer.tolist()], values


def blocks(settings: TransactionSettings) -> Iterator[TransactionBlock]:
    """Simulate transactions without end, in the order of their event times.

    Deterministic: every block is drawn from a generator of its own, seeded by (seed, day, block of the day), so what
    is read later never depends on how far or how often one has read. A block holds about 8 000 transactions or one
    day, whichever is less, and may be empty when a day brings less than a handful. Memory is a few dozen bytes a
    customer and terminal.
    """
    population = Population(settings)
    clock = _clock()
    slots = max(1, round(population.transactions_per_day / _BLOCK_TRANSACTIONS))
    next_id = 1
    for day in itertools.count():
        stolen, compromised = population.stolen(day), population.compromised(day)
        for slot in range(slots):
            rng = np.random.default_rng([settings.seed, day, slot])
            event_time_ms = _event_times(settings, rng, clock, day, (slot, slots), population.transactions_per_day)
            size = len(event_time_ms)
            customer, terminal = population.visits(rng, size)
            amount, scenario = _amounts(settings, rng, population.mean_amount[customer], stolen[customer])
            scenario[compromised[terminal] & (scenario != STOLEN_CARD)] = COMPROMISED_TERMINAL
            ids = np.arange(next_id, next_id + size)
            next_id += size
            yield TransactionBlock(ids, customer, terminal, amount, event_time_ms, scenario > 0, scenario)


def _clock() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The time of day's distribution: normal around noon, within the day; cumulative probability per minute."""
    ends_s = np.arange(0, 86_401, 60, dtype=np.float64)
    cumulative = np.array([math.erf((end - _NOON_S) / (_SPREAD_S * math.sqrt(2))) for end in ends_s])
    return (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0]), ends_s * 1_000


def _event_times(
    settings: TransactionSettings,
    rng: np.random.Generator,
    clock: tuple[NDArray[np.float64], NDArray[np.float64]],
    day: int,
    slot: tuple[int, int],
    per_day: float,
) -> NDArray[np.int64]:
    """The sorted event times of one slot, out of slots with the same expected number of transactions.

    The sum of independent Poisson processes is one Poisson process whose every event belongs to a customer with the
    probability of that customer's share: no draw per customer and day is needed.
    """
    index, slots = slot
    uniform = np.sort(rng.random(rng.poisson(per_day / slots)))
    since_midnight_ms = np.interp((index + uniform) / slots, *clock).astype(np.int64)
    return since_midnight_ms.clip(max=DAY_MS - 1) + (int(settings.start.timestamp()) * 1_000 + day * DAY_MS)


def _amounts(
    settings: TransactionSettings, rng: np.random.Generator, mean: NDArray[np.float64], stolen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Amounts after each customer's habit, and frauds 1 and 3, which show in the amount."""
    amount = rng.normal(mean, mean / 2)
    amount = np.where(amount < 0, rng.random(len(mean)) * 2 * mean, amount)
    theft = stolen & (rng.random(len(mean)) < STOLEN_SHARE)
    cents = np.maximum(1, np.rint(amount * 100)).astype(np.int64)
    scenario = np.where(cents > settings.large_amount * 100, LARGE_AMOUNT, 0).astype(np.int8)
    scenario[theft] = STOLEN_CARD
    return np.where(theft, cents * STOLEN_FACTOR, cents) / 100, scenario
