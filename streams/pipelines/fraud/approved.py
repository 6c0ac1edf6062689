"""Flags of approved transactions, written in bulk: nearly all are approved, and then only four fields differ."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.cells import Bytes, Cells, Ends
from models.fraud.blocks import DAY_MS, Int64

DIGITS = 6  # of scores and contributions
SCALE = 10**DIGITS
LATEST_MS = 253_402_300_799_999  # the last millisecond of the year 9999
LONGEST = 24 + DIGITS + 2  # bytes of a time and a score

Mask = NDArray[np.bool_]


# What stands before the transaction's id, the card's, the time and the score.
_BEFORE = (b'{"transaction_id":"', b'","card_id":"', b'","event_time":"', b'","score":')
ID, CARD, TIME, SCORE, REST = range(5)


class Approved:
    """Writes flags without reasons, rules or features.

    Args:
        model: its reference.
    """

    def __init__(self, model: str) -> None:
        rest = f',"flagged":false,"decision":"approve","model":"{model}","reasons":[]}}'.encode()
        self._fixed = Cells.of([*_BEFORE, rest])

    @staticmethod
    def writable(ids: Cells[bytes], cards: Cells[bytes], times: Int64, scores: NDArray[np.float64]) -> Mask:
        """bool [n]: whose ids need no escaping, whose year has four digits, and whose score is a probability."""
        plain = (times >= 0) & (times <= LATEST_MS) & (scores >= 0) & (scores <= 1)
        for cells in (ids, cards):
            _plain_text(cells.blob, cells.ends, plain)
        return plain

    def encode(
        self,
        ids: Cells[bytes],
        cards: Cells[bytes],
        times: Int64,
        scores: NDArray[np.float64],
        chosen: Mask,
        others: Cells[bytes],
    ) -> Cells[bytes]:
        """One value for each transaction, in their order: written here, or the next of `others`.

        Args:
            times: int64 [n], ms since the epoch.
            scores: float64 [n].
            chosen: bool [n]: who is written here; all of them are `writable`.
            others: values of the rest.
        """
        count = int(np.count_nonzero(chosen))
        room = len(ids.blob) + len(cards.blob) + len(others.blob) + count * (len(self._fixed.blob) + LONGEST)
        out, ends = np.empty(room, np.uint8), np.empty(len(ids), np.int64)
        size = _write(
            out,
            ends,
            (self._fixed.blob, ids.blob, cards.blob, others.blob),
            (self._fixed.ends, ids.ends, cards.ends, others.ends),
            times,
            np.rint(np.where(chosen, scores, 0) * SCALE).astype(np.int64),
            chosen,
        )
        return Cells(out[:size], ends)


def warm_up() -> None:
    """Compile the kernels, or load them from the cache on disk, so that the first batch need not wait."""
    cells, times, scores = Cells.of([b""]), np.zeros(1, np.int64), np.zeros(1)
    Approved("").encode(cells, cells, times, scores, Approved.writable(cells, cells, times, scores), Cells.of([]))


@njit(nogil=True, cache=True)
def _plain_text(blob: Bytes, ends: Ends, plain: Mask) -> None:
    """Take out whose text JSON would have to escape."""
    at = 0
    for row in range(len(ends)):
        odd = False
        for byte in blob[at : ends[row]]:
            odd |= (byte < 0x20) | (byte == 0x22) | (byte == 0x5C)
        if odd:
            plain[row] = False
        at = ends[row]


@njit(nogil=True, cache=True)
def _put(out: Bytes, at: int, source: Bytes, begin: int, end: int) -> int:
    for place in range(begin, end):
        out[at + place - begin] = source[place]
    return at + end - begin


@njit(nogil=True, cache=True)
def _put_number(out: Bytes, at: int, number: int, digits: int) -> int:
    for place in range(digits):
        out[at + digits - 1 - place] = 48 + number % 10
        number //= 10
    return at + digits


@njit(nogil=True, cache=True)
def _put_time(out: Bytes, at: int, time_ms: int) -> int:
    """A time since the epoch in RFC 3339, UTC, milliseconds.

    References:
        Howard Hinnant: chrono-compatible low-level date algorithms, civil_from_days.
    """
    days, in_day = time_ms // DAY_MS + 719_468, time_ms % DAY_MS
    era, of_era = days // 146_097, days % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += 400 * era + (1 if month <= 2 else 0)
    at = _put_number(out, at, year, 4)
    out[at] = 45  # -
    at = _put_number(out, at + 1, month, 2)
    out[at] = 45
    at = _put_number(out, at + 1, day, 2)
    out[at] = 84  # T
    at = _put_number(out, at + 1, in_day // 3_600_000, 2)
    out[at] = 58  # :
    at = _put_number(out, at + 1, in_day // 60_000 % 60, 2)
    out[at] = 58
    at = _put_number(out, at + 1, in_day // 1_000 % 60, 2)
    out[at] = 46  # .
    at = _put_number(out, at + 1, in_day % 1_000, 3)
    out[at] = 90  # Z
    return at + 1


@njit(nogil=True, cache=True)
def _put_score(out: Bytes, at: int, millionths: int) -> int:
    at = _put_number(out, at, millionths // SCALE, 1)
    out[at] = 46
    at = _put_number(out, at + 1, millionths % SCALE, DIGITS)
    while out[at - 1] == 48 and out[at - 2] != 46:  # zeros at the end, but for the first behind the point
        at -= 1
    return at


@njit(nogil=True, cache=True)
def _write(
    out: Bytes,
    ends: Ends,
    blobs: tuple[Bytes, Bytes, Bytes, Bytes],
    blob_ends: tuple[Ends, Ends, Ends, Ends],
    times: Int64,
    scores: Int64,
    chosen: Mask,
) -> int:
    """Write all values; returns bytes used."""
    fixed, ids, cards, others = blobs
    fixed_ends, id_ends, card_ends, other_ends = blob_ends
    at = id_begin = card_begin = other = other_begin = 0
    for row in range(len(ends)):
        fixed_begin = 0
        for part in range(REST + 1 if chosen[row] else 0):  # in a loop, so that what is compiled stays small
            at = _put(out, at, fixed, fixed_begin, fixed_ends[part])
            fixed_begin = fixed_ends[part]
            if part <= CARD:
                text = ids if part == ID else cards
                begin, end = (id_begin, id_ends[row]) if part == ID else (card_begin, card_ends[row])
                at = _put(out, at, text, begin, end)
            elif part == TIME:
                at = _put_time(out, at, times[row])
            elif part == SCORE:
                at = _put_score(out, at, scores[row])
        if not chosen[row]:
            at = _put(out, at, others, other_begin, other_ends[other])
            other_begin = other_ends[other]
            other += 1
        id_begin, card_begin = id_ends[row], card_ends[row]
        ends[row] = at
    return at
