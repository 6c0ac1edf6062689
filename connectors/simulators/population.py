"""Who transacts where: the customers and terminals of the transaction simulator, and which of them are attacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from connectors.simulators.transactions import TransactionSettings

PLANE = 100  # the plane's side in units; a neighbourhood is one unit square

_PEOPLE, _THEFTS, _COMPROMISES = 1, 2, 3
_MARK = 2**32 - 1  # no day and no block has this number: these generators are never those of a block


class Population:
    """Customers with a place, a mean amount and a mean number of transactions a day; terminals with a place.

    A pure function of the settings. `mean_amount` is float64[customers]; `home` int64[customers] is a customer's
    neighbourhood, column by column over the plane; `terminal_xy` is float64[terminals, 2] in units of the plane.
    """

    def __init__(self, settings: TransactionSettings) -> None:
        self._settings = settings
        rng = self._generator(_PEOPLE, 0)
        self.home: NDArray[np.int64] = rng.integers(PLANE * PLANE, size=settings.customers)
        self.mean_amount = rng.uniform(settings.min_mean_amount, settings.max_mean_amount, settings.customers)
        rate = settings.max_transactions_per_day * rng.random(settings.customers)
        self.transactions_per_day = float(rate.sum())
        self.share = rate / rate.sum()
        self._cumulative_share = np.cumsum(self.share)
        self.terminal_xy = rng.random((settings.terminals, 2)) * PLANE
        self._first, self._count, self._reach = _in_reach(self.terminal_xy, settings.radius)

    def visits(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw `size` customers, each by its rate, and for each a terminal out of those in reach of its home."""
        customer = np.searchsorted(self._cumulative_share, rng.random(size), side="right")
        customer = customer.clip(max=len(self.share) - 1)  # the shares' sum may round to a little under one
        home = self.home[customer]
        choice = (rng.random(size) * self._count[home]).astype(np.int64)
        return customer, self._reach[self._first[home] + choice]

    def stolen(self, day: int) -> NDArray[np.bool_]:
        """The cards whose stolen details are in use on a day: bool[customers]."""
        settings = self._settings
        return self._struck(_THEFTS, day, settings.customers, settings.card_theft_rate, settings.stolen_days)

    def compromised(self, day: int) -> NDArray[np.bool_]:
        """The terminals that are compromised on a day: bool[terminals]."""
        settings = self._settings
        rate = settings.terminal_compromise_rate
        return self._struck(_COMPROMISES, day, settings.terminals, rate, settings.compromised_days)

    def _struck(self, kind: int, day: int, among: int, rate: float, days: int) -> NDArray[np.bool_]:
        """Those struck on this day or one of the `days` - 1 before it, of which the first may precede day 0."""
        struck = np.zeros(among, dtype=np.bool_)
        for strike_day in range(day, day + days):  # counted from `days` - 1 days before day 0
            rng = self._generator(kind, strike_day)
            struck[rng.integers(among, size=rng.poisson(rate * among))] = True
        return struck

    def _generator(self, kind: int, day: int) -> np.random.Generator:
        return np.random.default_rng([self._settings.seed, _MARK, kind, day])


def _in_reach(
    terminal_xy: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """For each neighbourhood the terminals within the radius of its centre, or else the nearest one.

    Returns the index of its first terminal, their count (each per neighbourhood), and the concatenated terminals.
    Terminals are sorted by x, so a column of neighbourhoods looks only at those near it.
    """
    by_x = np.argsort(terminal_xy[:, 0], kind="stable")
    x, y = terminal_xy[by_x].T
    centre = np.arange(PLANE) + 0.5
    found: list[NDArray[np.int32]] = []
    for column in centre:
        low, high = np.searchsorted(x, (column - radius, column + radius))
        for row in centre:
            near = (x[low:high] - column) ** 2 + (y[low:high] - row) ** 2 <= radius**2
            terminals = by_x[low:high][near]
            if not len(terminals):
                terminals = by_x[[np.argmin((x - column) ** 2 + (y - row) ** 2)]]
            found.append(terminals.astype(np.int32))
    count = np.array([len(terminals) for terminals in found])
    return np.cumsum(count) - count, count, np.concatenate(found)
