"""Compiled kernels that keep the labels of terminals' transactions, and answer what a terminal did before an event.

 A label is one word: twice its label time, and one more if it says fraud. So of two labels of a transaction the larger
word is the one that counts, and a fraud is known at a time t if its word is odd and at most 2 t + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS, NEVER, WINDOWS_MS, Int, Int64, kernel, witness
from models.fraud.series import (
    FROM,
    HEADER,
    PIECE,
    ROOM,
    UNTIL,
    Series,
    find,
    holds,
    label_at,
    trim,
    upper,
)

UNKNOWN = NEVER  # the word of a transaction without a label; even, so that it is no fraud
NOTHING, WAIT, CLEARED = 0, -1, -2  # what else a label asks for; a positive number: so many new frauds
FARTHEST = 64  # transactions that the search for a run or a genuine transaction goes back
FOREVER_DAYS = 99.0
COLUMNS = (
    "count_1d", "fraud_share_1d", "count_7d", "fraud_share_7d", "count_30d", "fraud_share_30d",
    "run", "run_age_days", "last_fraud_age_days", "last_genuine_age_days",
)  # fmt: skip


@kernel
def witness_all(top: Int64, times: Int64) -> None:
    """Put times among the largest ones."""
    for time in times:
        if time > top[0]:
            witness(top, time)


@kernel
def claim(
    entries: Series, waiting: Series, rows: Int64, times: Int64, tags: Int64
) -> tuple[Int64, NDArray[np.bool_]]:  # fmt: skip
    """Find the labels of new transactions, given in the order of row, time and hash.

    Returns:
        their words, and whether a transaction is the first to have that of a label that has waited for it.
    """
    labels = np.full(len(rows), UNKNOWN, np.int64)
    claimed = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        row, time, tag = rows[i], times[i], tags[i]
        if i > 0 and row == rows[i - 1] and time == times[i - 1] and tag == tags[i - 1]:
            labels[i] = labels[i - 1]
            continue
        at = find(entries, row, time, tag)
        if holds(entries, row, at, time, tag):
            labels[i] = entries.words[label_at(entries, row, at)]
        elif waiting.rows[row, ROOM] > 0:
            at = find(waiting, row, time, tag)
            if holds(waiting, row, at, time, tag):
                labels[i] = waiting.words[label_at(waiting, row, at)]
                claimed[i] = True
    return labels, claimed


@kernel
def relabel(
    entries: Series, frauds: Series, waiting: Series, rows: Int64, times: Int64, tags: Int64, labels: Int64
) -> Int64:  # fmt: skip
    """Give transactions their labels, one a key.

    Returns:
        for each label how many frauds are to be added, or `CLEARED`: they are to be removed, or `WAIT`: it has found
        no transaction and is to be put among those that wait; or `NOTHING`.
    """
    fates = np.zeros(len(rows), np.int64)
    for i in range(len(rows)):
        row, time, tag, label = rows[i], times[i], tags[i], labels[i]
        at = find(entries, row, time, tag)
        if not holds(entries, row, at, time, tag):
            at = find(waiting, row, time, tag)
            if holds(waiting, row, at, time, tag):
                place = label_at(waiting, row, at)
                waiting.words[place] = max(waiting.words[place], label)
            else:
                fates[i] = WAIT
            continue
        known = entries.words[label_at(entries, row, at)]
        if label <= known:
            continue
        copies = 0
        while holds(entries, row, at + copies, time, tag):
            entries.words[label_at(entries, row, at + copies)] = label
            copies += 1
        if known & 1 == 0:
            fates[i] = copies if label & 1 else NOTHING
        elif label & 1 == 0:
            fates[i] = CLEARED
        else:
            at = find(frauds, row, time, tag)
            while holds(frauds, row, at, time, tag):
                frauds.words[label_at(frauds, row, at)] = label
                at += 1
    return fates


@kernel
def sweep(
    entries: Series, frauds: Series, waiting: Series, held: NDArray[np.bool_], start: Int, steps: Int, horizon: Int
) -> tuple[Int64, Int]:  # fmt: skip
    """Drop what is not after `horizon` from `steps` rows from `start` on, around the end.

    Returns:
        the rows that have nothing left and are not `held` any more, and how many waiting labels have been dropped.
    """
    gone = np.empty(steps, np.int64)
    found = 0
    expired: Int = 0
    row = start
    for _ in range(steps):
        if held[row]:
            trim(entries, row, horizon)
            if frauds.rows[row, ROOM] > 0:
                trim(frauds, row, horizon)
            if waiting.rows[row, ROOM] > 0:
                expired += trim(waiting, row, horizon)
            if entries.rows[row, ROOM] == 0 and waiting.rows[row, ROOM] == 0:
                held[row] = False
                gone[found] = row
                found += 1
        row = row + 1 if row + 1 < len(held) else 0
    return gone[:found], expired


@kernel
def share_frauds(
    frauds: Series, row: Int, now: Int, until: Int, horizon: Int, longest_lag: Int, out: NDArray[np.float64]
) -> Int:  # fmt: skip
    """Share of fraud in the windows that end at `until`, as known at `now`, for the counts that are in `out`.

    Only the frauds of the last `longest_lag` can be unknown, so only they are looked at one by one.

    Returns:
        the time of the last fraud in the longest window, `NEVER` where there is none.
    """
    words, first = frauds.words, frauds.rows[row, FROM]
    times, labels = frauds.rows[row, PIECE] + HEADER, label_at(frauds, row, 0)
    end = upper(words, times, first, frauds.rows[row, UNTIL], until)
    sure = upper(words, times, first, end, min(until, now - longest_lag))
    oldest = upper(words, times, first, end, max(until - WINDOWS_MS[2], horizon))
    middle = upper(words, times, oldest, end, max(until - WINDOWS_MS[1], horizon))
    short = upper(words, times, middle, end, max(until - WINDOWS_MS[0], horizon))
    last = np.int64(NEVER)
    in_short: Int = max(0, sure - short)
    in_middle: Int = max(0, sure - middle)
    in_long: Int = max(0, sure - oldest)
    for at in range(end - 1, max(sure, oldest) - 1, -1):
        if words[labels + at] <= 2 * now + 1:
            in_short += at >= short
            in_middle += at >= middle
            in_long += 1
            if last == NEVER:
                last = words[times + at]
    if last == NEVER and sure > oldest:
        last = words[times + sure - 1]
    if in_long > 0:
        out[1] = in_short / max(1.0, out[0])
        out[3] = in_middle / max(1.0, out[2])
        out[5] = in_long / out[4]
    return last


@kernel
def age_days(now: Int, time: Int) -> float:
    """How long ago `time` was, in days."""
    return min((now - time) / DAY_MS, FOREVER_DAYS)


@kernel
def look_back(
    entries: Series, row: Int, now: Int, oldest: Int, end: Int, out: NDArray[np.float64]
) -> None:  # fmt: skip
    """The run of frauds before entry `end`, and the last genuine transaction, into columns 6, 7 and 9."""
    words = entries.words
    times, labels = entries.rows[row, PIECE] + HEADER, label_at(entries, row, 0)
    at = end - 1
    while at >= oldest and at >= end - FARTHEST and words[labels + at] & 1 and words[labels + at] <= 2 * now + 1:
        at -= 1
    if end - 1 > at:
        out[6] = end - 1 - at
        out[7] = age_days(now, words[times + at + 1])
    if at >= oldest and at >= end - FARTHEST:
        out[9] = age_days(now, words[times + at])


@kernel
def look(
    entries: Series, frauds: Series, lags: Int64, rows: Int64, now: Int64, delay: Int, horizon: Int,
    out: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write what `COLUMNS` names for events at the times `now`, of terminals without a row too (-1)."""
    words = entries.words
    for i in range(len(rows)):
        row, until = rows[i], now[i] - delay
        out[i, :] = 0.0
        out[i, 7:10] = FOREVER_DAYS
        if row < 0 or entries.rows[row, ROOM] == 0:
            continue
        times, first = entries.rows[row, PIECE] + HEADER, entries.rows[row, FROM]
        end = upper(words, times, first, entries.rows[row, UNTIL], max(until, horizon))
        oldest = upper(words, times, first, end, max(until - WINDOWS_MS[2], horizon))
        middle = upper(words, times, oldest, end, max(until - WINDOWS_MS[1], horizon))
        short = upper(words, times, middle, end, max(until - WINDOWS_MS[0], horizon))
        out[i, 0], out[i, 2], out[i, 4] = end - short, end - middle, end - oldest
        if end == oldest:
            continue
        look_back(entries, row, now[i], oldest, end, out[i])
        if frauds.rows[row, ROOM] > 0:
            last = share_frauds(frauds, row, now[i], until, horizon, lags[row], out[i])
            if last != NEVER:
                out[i, 8] = age_days(now[i], last)
