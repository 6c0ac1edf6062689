"""A compiled kernel that compares an event with what its card has done before."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import COUNT, ENTRIES, LONG, MAX_T, MICRO, MIN_T, NONE, PREV, Int, Int64, kernel

COLUMNS = ("amount_ratio", "amount_deviation", "unusual_14d", "largest_14d", "count_1m", "count_1h", "since_last_s")
RECENT = 64  # transactions that make a habit
UNUSUAL = 2.5  # times the habit; what is more is left out of it
ROUNDS = 3  # of leaving out: the habit is then that of the rest, in nearly all cases
FLOOR = 0.2  # of the mean: the least that a standard deviation counts for, where few or equal amounts are known
MINUTE_MS, HOUR_MS, FORTNIGHT_MS = 60_000, 3_600_000, 14 * 86_400_000


@kernel
def gather(blocks: Int64, block: Int, time: Int, offset: Int, horizon: Int, times: Int64, amounts: Int64) -> int:
    """The latest entries by offset that an event may know: before `offset`, after `horizon`, in (time - LONG, time].

    Args:
        block: the card's newest one, or `NONE`.
        times, amounts: [RECENT], written from the start.

    Returns:
        How many there are.
    """
    found = 0
    after = max(horizon, time - LONG)
    while block != NONE:
        if blocks[block, MAX_T] > after and blocks[block, MIN_T] <= time:
            for at in range(ENTRIES + 3 * (blocks[block, COUNT] - 1), ENTRIES - 1, -3):
                if after < blocks[block, at] <= time and blocks[block, at + 2] < offset:
                    times[found], amounts[found] = blocks[block, at], blocks[block, at + 1]
                    found += 1
                    if found == RECENT:
                        return found
        block = blocks[block, PREV]
    return found


@kernel
def usual(amounts: Int64) -> float:
    """The mean amount without the unusual ones: those above `UNUSUAL` times the mean of the rest."""
    habit = np.inf
    for _ in range(ROUNDS + 1):
        total, count = np.int64(0), 0
        for amount in amounts:
            if amount <= UNUSUAL * habit:
                total += amount
                count += 1
        if count == 0:
            break
        habit = total / count
    return habit


@kernel
def compare(
    blocks: Int64, block: Int, time: Int, amount: Int, offset: Int, horizon: Int,
    times: Int64, amounts: Int64, row: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write what `CardHistory.update` calls habits, for one event.

    Args:
        block: the newest block of the event's card, or `NONE`.
        times, amounts: [RECENT], scratch space.
        row: float64 [7], written: COLUMNS.
    """
    count = gather(blocks, block, time, offset, horizon, times, amounts)
    row[0], row[1], row[2], row[3], row[4], row[5], row[6] = 1, 0, 0, 0, 1, 1, LONG / 1000
    if count == 0:
        return
    total, newest = np.int64(0), times[0]
    for i in range(count):
        total += amounts[i]
        newest = max(newest, times[i])
        row[4] += times[i] > time - MINUTE_MS
        row[5] += times[i] > time - HOUR_MS
    row[6] = (time - newest) / 1000
    mean, habit = total / count, usual(amounts[:count])
    if habit <= 0:
        return
    squares = 0.0
    largest = np.int64(0)
    for i in range(count):
        squares += ((amounts[i] - mean) / MICRO) ** 2
        if times[i] > time - FORTNIGHT_MS:
            row[2] += amounts[i] > UNUSUAL * habit
            largest = max(largest, amounts[i])
    row[0] = amount / habit
    row[1] = (amount - mean) / (math.sqrt(squares / count) * MICRO + FLOOR * mean)
    row[3] = largest / habit
