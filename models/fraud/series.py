"""Compiled kernels over many series of entries, each sorted by time, in one array.

 A series is a row of `Series.rows` and lies in one piece of `Series.words`: a header of two words (the row, the size of
the piece in words), then the times of its entries, their hashes, their labels, each with room for ROOM. An entry is
found by binary search. A piece that is full moves to the end of `words`, with an eighth to spare; what it leaves is
garbage until `compact` pushes the pieces together, the first ones first, so that no copy of the array is needed. A
piece that is a large part of `words` pushes those behind it away instead: never is it there twice.
 Entries are sorted by time, then hash, so what a series holds is a function of the set of its entries. Times, hashes
and labels are any int64; what they mean is up to the caller.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.fraud.blocks import Int, Int64, kernel

PIECE, FROM, UNTIL, ROOM = range(4)  # columns of a row; entries FROM <= i < UNTIL are held, no ROOM: no piece
ROW_WORDS = 4
HEADER = 2
ENTRY_WORDS = 3
USED, GARBAGE, LARGE = range(3)  # scalars, in words; a piece above LARGE does not move while a batch is inserted
GROWTH = 8  # what grows, grows by an eighth
SMALLEST = 4  # entries to spare in a new piece
SMALLEST_SLAB = 1024
NOBODY = -1  # the row of a piece that is garbage


class Series(NamedTuple):
    """The arrays that the kernels work on. A row of zeros is a series without entries."""

    words: Int64  # [words], pieces one behind the other
    rows: Int64  # [rows, ROW_WORDS]
    scalars: Int64  # [3]


def empty() -> Series:
    """Series without rows."""
    return Series(np.zeros(0, np.int64), np.zeros((0, ROW_WORDS), np.int64), np.zeros(3, np.int64))


def grown(size: int, needed: int) -> int:
    """The next size of a slab that has `size` and must have `needed`."""
    return max(needed, size + size // GROWTH, SMALLEST_SLAB)


@kernel
def fitting(entries: Int) -> Int:
    """The room of a new piece for so many entries."""
    return entries + entries // GROWTH + SMALLEST


@kernel
def upper(words: Int64, times: Int, low: Int, high: Int, time: Int) -> Int:
    """The first of the entries low <= i < high that is later than `time`; `times` is where in `words` times begin."""
    if low >= high or words[times + high - 1] <= time:
        return high
    while low < high:
        middle = (low + high) >> 1
        if words[times + middle] <= time:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def find(series: Series, row: Int, time: Int, tag: Int) -> Int:
    """The first entry of a row that is not before this time and hash."""
    words = series.words
    times = series.rows[row, PIECE] + HEADER
    tags = times + series.rows[row, ROOM]
    low: Int = series.rows[row, FROM]
    high: Int = series.rows[row, UNTIL]
    if low == high or words[times + high - 1] < time:
        return high
    while low < high:
        middle = (low + high) >> 1
        at = words[times + middle]
        if at < time or (at == time and words[tags + middle] < tag):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def holds(series: Series, row: Int, at: Int, time: Int, tag: Int) -> bool:
    """Whether entry `at` of a row exists and has this time and hash."""
    times = series.rows[row, PIECE] + HEADER
    return bool(
        at < series.rows[row, UNTIL]
        and series.words[times + at] == time
        and series.words[times + series.rows[row, ROOM] + at] == tag
    )


@kernel
def label_at(series: Series, row: Int, at: Int) -> Int:
    """Where in `words` the label of entry `at` of a row is."""
    place: Int = series.rows[row, PIECE] + HEADER + 2 * series.rows[row, ROOM] + at
    return place


@kernel
def move(series: Series, row: Int, to: Int, room: Int) -> None:
    """Write a row's piece at `to`, with this room: into free words, or over itself, not later and not larger."""
    words, rows = series.words, series.rows
    source = rows[row, PIECE] + HEADER + rows[row, FROM]
    old, count = rows[row, ROOM], rows[row, UNTIL] - rows[row, FROM]
    words[to], words[to + 1] = row, HEADER + ENTRY_WORDS * room
    for column in range(ENTRY_WORDS):
        start, target = source + column * old, to + HEADER + column * room
        for i in range(count):
            words[target + i] = words[start + i]
    rows[row, PIECE], rows[row, FROM], rows[row, UNTIL], rows[row, ROOM] = to, 0, count, room


@kernel
def discard(series: Series, row: Int) -> None:
    """Leave a row without entries and without a piece."""
    piece = series.rows[row, PIECE]
    if series.rows[row, ROOM] > 0:
        series.words[piece] = NOBODY
        series.scalars[GARBAGE] += series.words[piece + 1]
        series.rows[row, :] = 0


@kernel
def room_wanted(series: Series, row: Int, more: Int) -> Int:
    """The room of the new piece that a row needs before so many entries more; 0 if it need not have a new one."""
    room = series.rows[row, ROOM]
    if series.rows[row, UNTIL] + more <= room:
        return 0
    entries = series.rows[row, UNTIL] - series.rows[row, FROM] + more
    return 0 if entries + entries // (2 * GROWTH) <= room else fitting(entries)


@kernel
def trim(series: Series, row: Int, horizon: Int) -> Int:
    """Drop a row's entries that are not after `horizon`, give back what room is far too much, return how many left."""
    words, rows = series.words, series.rows
    piece, room, first, until = rows[row, PIECE], rows[row, ROOM], rows[row, FROM], rows[row, UNTIL]
    at = first
    while at < until and words[piece + HEADER + at] <= horizon:
        at += 1
    rows[row, FROM] = at
    smaller = fitting(until - at)
    if at == until:
        discard(series, row)
    elif 2 * smaller < room:
        move(series, row, piece, smaller)
        rest = ENTRY_WORDS * (room - smaller)
        words[piece + HEADER + ENTRY_WORDS * smaller] = NOBODY
        words[piece + HEADER + ENTRY_WORDS * smaller + 1] = rest
        series.scalars[GARBAGE] += rest
    dropped: Int = at - first
    return dropped


@kernel
def is_large(series: Series, row: Int) -> bool:
    """Whether a row's piece grows where it is."""
    return bool(ENTRY_WORDS * series.rows[row, ROOM] > series.scalars[LARGE])


@kernel
def widen(series: Series, row: Int, room: Int) -> None:
    """Give a row's piece more room where it is, and push all pieces behind it away."""
    words, rows, scalars = series.words, series.rows, series.scalars
    piece, old = rows[row, PIECE], rows[row, ROOM]
    more = ENTRY_WORDS * (room - old)
    behind = piece + words[piece + 1]
    for at in range(scalars[USED] - 1, behind - 1, -1):
        words[at + more] = words[at]
    scalars[USED] += more
    at = behind + more
    while at < scalars[USED]:
        if words[at] != NOBODY:
            rows[words[at], PIECE] = at
        at += words[at + 1]
    words[piece + 1] += more
    rows[row, ROOM] = room
    for column in range(ENTRY_WORDS - 1, 0, -1):
        start, target = piece + HEADER + column * old, piece + HEADER + column * room
        for i in range(rows[row, UNTIL] - 1, rows[row, FROM] - 1, -1):
            words[target + i] = words[start + i]


@kernel
def make_room(series: Series, row: Int, more: Int) -> None:
    """Let a row's piece have room for so many entries more at its end."""
    rows, scalars = series.rows, series.scalars
    room = room_wanted(series, row, more)
    if room > 0 and is_large(series, row):
        widen(series, row, room)
    elif room > 0:
        old, had_one = rows[row, PIECE], rows[row, ROOM] > 0
        move(series, row, scalars[USED], room)
        scalars[USED] += HEADER + ENTRY_WORDS * room
        if had_one:
            series.words[old] = NOBODY
            scalars[GARBAGE] += series.words[old + 1]
    if rows[row, UNTIL] + more > rows[row, ROOM]:
        move(series, row, rows[row, PIECE], rows[row, ROOM])


@kernel
def words_wanted(series: Series, rows: Int64, horizon: Int) -> Int:
    """How many words `merge` will take, given the sorted rows of its entries; rows that are full are trimmed first."""
    series.scalars[LARGE] = max(series.scalars[USED] // GROWTH, SMALLEST_SLAB)
    wanted: Int = 0
    begin = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != rows[begin]:
            row, more = rows[begin], end - begin
            if series.rows[row, UNTIL] + more > series.rows[row, ROOM]:
                trim(series, row, horizon)
                room = room_wanted(series, row, more)
                if room > 0 and is_large(series, row):
                    wanted += ENTRY_WORDS * (room - series.rows[row, ROOM])
                elif room > 0:
                    wanted += HEADER + ENTRY_WORDS * room
            begin = end
    return wanted


@kernel
def merge(series: Series, rows: Int64, times: Int64, tags: Int64, labels: Int64) -> None:
    """Insert entries sorted by row, time and hash. There must be `words_wanted` words, and `rows` must exist."""
    words = series.words
    begin = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end] == rows[begin]:
            continue
        row = rows[begin]
        make_room(series, row, end - begin)
        room, first = series.rows[row, ROOM], series.rows[row, FROM]
        time_of = series.rows[row, PIECE] + HEADER
        old, new = series.rows[row, UNTIL] - 1, end - 1
        series.rows[row, UNTIL] += end - begin
        to = time_of + series.rows[row, UNTIL] - 1
        while new >= begin:  # from the last one on, until the rest is in its place
            at = time_of + old
            if old >= first and (words[at] > times[new] or (words[at] == times[new] and words[at + room] > tags[new])):
                words[to], words[to + room], words[to + 2 * room] = words[at], words[at + room], words[at + 2 * room]
                old -= 1
            else:
                words[to], words[to + room], words[to + 2 * room] = times[new], tags[new], labels[new]
                new -= 1
            to -= 1
        begin = end


@kernel
def remove(series: Series, rows: Int64, times: Int64, tags: Int64) -> None:
    """Take out all entries with these keys, which are sorted by row, time and hash and need not be there."""
    words = series.words
    begin = 0
    while begin < len(rows):
        row = rows[begin]
        time_of, room = series.rows[row, PIECE] + HEADER, series.rows[row, ROOM]
        to = find(series, row, times[begin], tags[begin])
        for at in range(to, series.rows[row, UNTIL]):
            time, tag = words[time_of + at], words[time_of + room + at]
            while (
                begin < len(rows)
                and rows[begin] == row
                and (times[begin] < time or (times[begin] == time and tags[begin] < tag))
            ):
                begin += 1
            if begin == len(rows) or rows[begin] != row or times[begin] != time or tags[begin] != tag:
                words[time_of + to], words[time_of + room + to] = time, tag
                words[time_of + 2 * room + to] = words[time_of + 2 * room + at]
                to += 1
        series.rows[row, UNTIL] = to
        while begin < len(rows) and rows[begin] == row:
            begin += 1


@kernel
def compact(series: Series) -> None:
    """Push all pieces together, so that nothing of `words` is garbage."""
    words, rows, scalars = series.words, series.rows, series.scalars
    piece = to = 0
    while piece < scalars[USED]:
        row, size = words[piece], words[piece + 1]
        if row != NOBODY:
            room = min(rows[row, ROOM], fitting(rows[row, UNTIL] - rows[row, FROM]))
            move(series, row, to, room)
            to += HEADER + ENTRY_WORDS * room
        piece += size
    scalars[USED], scalars[GARBAGE] = to, 0


def insert(series: Series, horizon: int, rows: Int64, times: Int64, tags: Int64, labels: Int64) -> None:
    """Insert entries sorted by row, time and hash; what is not after `horizon` may be dropped from the same rows."""
    if not len(rows):
        return
    wanted = int(words_wanted(series, rows, horizon))
    if wanted > series.scalars[LARGE] and len(rows) > 1:  # what half of them leaves is room for the others
        for half in (slice(len(rows) // 2), slice(len(rows) // 2, None)):
            insert(series, horizon, rows[half], times[half], tags[half], labels[half])
        return
    garbage = GROWTH * int(series.scalars[GARBAGE])
    if int(series.scalars[USED]) + wanted > len(series.words) and garbage > series.scalars[USED]:
        compact(series)
        wanted = int(words_wanted(series, rows, horizon))
    needed = int(series.scalars[USED]) + wanted
    if needed > len(series.words):
        series.words.resize(grown(len(series.words), needed), refcheck=False)  # moves pages, where libc can
    merge(series, rows, times, tags, labels)


def tidy(series: Series) -> None:
    """Give back memory where more than half of it is of no use."""
    if 2 * series.scalars[GARBAGE] > series.scalars[USED]:
        compact(series)
    used = int(series.scalars[USED])
    if len(series.words) > 2 * used + SMALLEST_SLAB:
        series.words.resize(used + used // GROWTH, refcheck=False)
