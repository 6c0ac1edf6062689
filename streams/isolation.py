"""Bisection: of many records that were tried together, which are those that cannot succeed?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from streams.errors import PoisonEvent
from streams.pipeline import Rows

T = TypeVar("T")


def isolate(run: Callable[[Rows | None], T], count: int) -> tuple[list[T], Rows, dict[int, Exception]]:
    """Run over all rows; where that raises, over halves, down to the rows that cannot succeed.

    Returns:
        The results in row order, the rows that they cover, and the error of each row that failed.
    """
    everything = np.arange(count)
    if not count:
        return [], everything, {}
    try:
        return [run(None)], everything, {}
    except Exception as error:  # whatever a domain's code raises, the other records must get their predictions
        if count == 1:
            return [], everything[:0], {0: error}
    results: list[T] = []
    good: list[Rows] = []
    failed: dict[int, Exception] = {}
    pending = [everything[count // 2 :], everything[: count // 2]]
    while pending:
        rows = pending.pop()
        try:
            results.append(run(rows))
            good.append(rows)
        except Exception as error:
            if len(rows) == 1:
                failed[int(rows[0])] = error
            else:
                pending += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
    return results, np.concatenate(good) if good else everything[:0], failed


def as_poison(stage: str, error: Exception) -> PoisonEvent:
    """What a stage raised for one record, as the reason of its dead letter."""
    if isinstance(error, PoisonEvent):
        return error
    return PoisonEvent(stage, str(error) or type(error).__name__, type(error).__name__)
