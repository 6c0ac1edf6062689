"""Compiled kernels over the blocks that hold every card's recent transactions.

A card's entries hang in a linked list of blocks of `CAPACITY` entries, in the order of their input offsets. One row of `blocks` is
one block: eight words of header (links, count, and the span and sum that let a window take or skip the block whole), then the
entries, three words each: event time in ms, amount in millionths, input offset. One row of `cards` is one card.

Whatever is freed stays untouched until `drain` has reported it, so a block's number means one thing between two reports.
Every kernel releases the GIL and must have its arrays to itself while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numba import njit  # type: ignore[import-untyped]
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Int64 = NDArray[np.int64]

CAPACITY = 8  # entries a block
# columns of a block; entries from ENTRIES on. PEAK is the largest time in it and all older blocks, LOW the smallest in it and all newer
PREV, NEXT, MIN_T, MAX_T, PEAK, LOW, COUNT, CARD, ENTRIES = range(9)
BLOCK_WORDS = ENTRIES + 3 * CAPACITY
# columns of a card: newest block, last offset applied, largest event time, oldest block that may be freed; then four for each window
TAIL, APPLIED, NEWEST, HAND, WINDOW = range(5)
IN_COUNT, IN_SUM, BORDER, FROM = range(4)  # entries after the border, however new; no block before FROM has any
WINDOW_WORDS = 4
STALE = WINDOW + BORDER  # this column is VACANT while a card's windows must be counted afresh
CARD_WORDS = WINDOW + 3 * WINDOW_WORDS
POSITION, USED, FREE, TOUCHED, CURSOR = range(
    5
)  # scalars: last offset, blocks ever used, lengths of stacks, next card to sweep
NONE = -1
NEVER = np.iinfo(np.int64).min  # event time of a card without entries
VACANT = np.iinfo(np.int64).max  # event time in a row of `cards` that no card uses
DAY_MS = 86_400_000
WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
SHORT, MIDDLE, LONG = WINDOWS_MS
WITNESSES = 16  # events that must have reached a time before the watermark does
MICRO = 1e6


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile without the GIL on first use, and keep the machine code on disk."""
    return cast(Callable[P, R], njit(nogil=True, cache=True, error_model="numpy")(function))


@kernel
def touch(block: int, marks: NDArray[np.uint8], touched: NDArray[np.int32], scalars: Int64) -> None:
    """Note that a block has changed since the last report, once."""
    if marks[block] == 0:
        marks[block] = 1
        touched[scalars[TOUCHED]] = block
        scalars[TOUCHED] += 1


@kernel
def unlink(block: int, cards: Int64, blocks: Int64) -> None:
    """Take a block out of its card's list and leave it empty."""
    before, after = blocks[block, PREV], blocks[block, NEXT]
    if after == NONE:
        cards[blocks[block, CARD], TAIL] = before
    else:
        blocks[after, PREV] = before
    if before != NONE:
        blocks[before, NEXT] = after
    blocks[block, COUNT] = 0


@kernel
def append_block(card: int, after: int, cards: Int64, blocks: Int64, free: NDArray[np.int32], scalars: Int64) -> int:
    """Link an empty block into a card's list behind block `after` (`NONE`: at its head)."""
    if scalars[FREE] > 0:
        scalars[FREE] -= 1
        block = np.int64(free[scalars[FREE]])
    else:
        block = scalars[USED]
        scalars[USED] += 1
    following = np.int64(NONE)
    if after == cards[card, TAIL]:
        cards[card, TAIL] = block
    elif after == NONE:  # a new head: the list is walked from its tail
        following = cards[card, TAIL]
        while blocks[following, PREV] != NONE:
            following = blocks[following, PREV]
    else:
        following = blocks[after, NEXT]
    if after != NONE:
        blocks[after, NEXT] = block
    if following != NONE:
        blocks[following, PREV] = block
    blocks[block, PREV] = after
    blocks[block, NEXT] = following
    blocks[block, CARD] = card
    blocks[block, COUNT] = 0
    blocks[block, MIN_T] = VACANT
    blocks[block, MAX_T] = NEVER
    blocks[block, LOW] = VACANT
    blocks[block, PEAK] = NEVER if after == NONE else blocks[after, PEAK]
    return block


@kernel
def write_entry(block: int, time: int, amount: int, offset: int, cards: Int64, blocks: Int64) -> None:
    """Append one entry to a block that has room, and keep the block's and the card's summaries."""
    count = blocks[block, COUNT]
    at = ENTRIES + 3 * count
    blocks[block, at] = time
    blocks[block, at + 1] = amount
    blocks[block, at + 2] = offset
    blocks[block, COUNT] = count + 1
    blocks[block, MIN_T] = min(blocks[block, MIN_T], time)
    blocks[block, MAX_T] = max(blocks[block, MAX_T], time)
    card = blocks[block, CARD]
    cards[card, APPLIED] = max(cards[card, APPLIED], offset)
    cards[card, NEWEST] = max(cards[card, NEWEST], time)


@kernel
def witness(time: int, top: Int64) -> None:
    """Insert a time into the ascending list of the largest ones."""
    at = 0
    while at + 1 < top.shape[0] and top[at + 1] < time:
        top[at] = top[at + 1]
        at += 1
    top[at] = time


@kernel
def witnesses_before(offset: int, blocks: Int64, scalars: Int64, top: Int64) -> None:
    """Recompute the largest event times from the entries held whose offset is below `offset`."""
    top[:] = NEVER
    for block in range(scalars[USED]):
        if blocks[block, COUNT] == 0 or blocks[block, MAX_T] <= top[0]:
            continue
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if blocks[block, at + 2] < offset and blocks[block, at] > top[0]:
                witness(blocks[block, at], top)


@kernel
def occupy(card: int, cards: Int64) -> None:
    """Begin a card without entries."""
    cards[card, TAIL] = NONE
    cards[card, APPLIED] = NONE
    cards[card, NEWEST] = NEVER
    cards[card, STALE] = VACANT


@kernel
def last_offset(block: int, blocks: Int64) -> int:
    """The offset of a block's last entry."""
    return blocks[block, ENTRIES + 3 * blocks[block, COUNT] - 1]


@kernel
def add_between(block: int, after: int, until: int, sign: int, blocks: Int64, card: Int64) -> None:
    """Add (or take away) a block's entries with times in (after, until] to one window of a card."""
    if blocks[block, MAX_T] > after and blocks[block, MIN_T] <= until:
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if after < blocks[block, at] <= until:
                card[IN_COUNT] += sign
                card[IN_SUM] += sign * blocks[block, at + 1]


@kernel
def recount(card: int, cards: Int64, blocks: Int64) -> None:
    """Rebuild what a card and its blocks say about their entries."""
    low = np.int64(VACANT)
    block, head = cards[card, TAIL], np.int64(NONE)
    while block != NONE:
        low = min(low, blocks[block, MIN_T])
        blocks[block, LOW] = low
        head, block = block, blocks[block, PREV]
    peak = np.int64(NEVER)
    block = head
    while block != NONE:
        peak = max(peak, blocks[block, MAX_T])
        blocks[block, PEAK] = peak
        block = blocks[block, NEXT]
    cards[card, NEWEST] = peak
    cards[card, HAND] = head
    for at in range(WINDOW, CARD_WORDS, WINDOW_WORDS):
        window = cards[card, at : at + WINDOW_WORDS]
        window[IN_COUNT] = window[IN_SUM] = 0
        window[BORDER] = NEVER
        window[FROM] = head
        block = head
        while block != NONE:
            add_between(block, NEVER, VACANT, 1, blocks, window)
            block = blocks[block, NEXT]


@kernel
def move_border(border: int, blocks: Int64, window: Int64) -> None:
    """Take out of a card's window what lies at or before a border further on."""
    block = window[FROM]
    if block == NONE:
        window[BORDER] = border
        return
    while block != NONE and blocks[block, LOW] <= border:
        add_between(block, window[BORDER], border, -1, blocks, window)
        block = blocks[block, NEXT]
    window[BORDER] = border
    block = window[FROM]
    while blocks[block, PEAK] <= border and blocks[block, NEXT] != NONE:
        block = blocks[block, NEXT]
    window[FROM] = block


@kernel
def look(time: int, since: Int64, card: int, cards: Int64, blocks: Int64, found: Int64) -> None:
    """Windows of a new event from its card's running ones: the cost is in how far it is out of order.

    `found` is [3, 2], written: count and sum of the entries in (since, time].
    """
    for w in range(3):
        window = cards[card, WINDOW + w * WINDOW_WORDS : WINDOW + (w + 1) * WINDOW_WORDS]
        if since[w] > window[BORDER]:
            move_border(since[w], blocks, window)
        found[w] = window[:2]
        if since[w] < window[BORDER]:
            block = window[FROM]
            while block != NONE and blocks[block, PEAK] > since[w]:
                add_between(block, since[w], window[BORDER], 1, blocks, found[w])
                block = blocks[block, PREV]
            block = blocks[window[FROM], NEXT] if window[FROM] != NONE else NONE
            while block != NONE and blocks[block, LOW] <= window[BORDER]:
                add_between(block, since[w], window[BORDER], 1, blocks, found[w])
                block = blocks[block, NEXT]
    if time < cards[card, NEWEST]:
        block = cards[card, TAIL]
        while block != NONE and blocks[block, PEAK] > time:
            for w in range(3):
                add_between(block, time, VACANT, -1, blocks, found[w])
            block = blocks[block, PREV]


@kernel
def walk(time: int, offset: int, since: Int64, card: int, cards: Int64, blocks: Int64, found: Int64) -> None:
    """Windows of any event, from all of its card's entries with offsets below its own; `found` as in `look`."""
    found[:] = 0
    block = cards[card, TAIL]
    while block != NONE:
        if blocks[block, MAX_T] > since[2] and blocks[block, MIN_T] <= time:
            for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
                for w in range(3):
                    if since[w] < blocks[block, at] <= time and blocks[block, at + 2] < offset:
                        found[w, 0] += 1
                        found[w, 1] += blocks[block, at + 1]
        block = blocks[block, PREV]


@kernel
def keep(
    card: int,
    time: int,
    amount: int,
    offset: int,
    cards: Int64,
    blocks: Int64,
    free: NDArray[np.int32],
    scalars: Int64,
) -> int:
    """Append a new event to its card, whose windows are not stale, and return its block."""
    block = cards[card, TAIL]
    if block == NONE or blocks[block, COUNT] == CAPACITY:
        block = append_block(card, block, cards, blocks, free, scalars)
        if cards[card, HAND] == NONE:
            cards[card, HAND] = block
    write_entry(block, time, amount, offset, cards, blocks)
    blocks[block, PEAK] = max(blocks[block, PEAK], time)
    for at in range(WINDOW, CARD_WORDS, WINDOW_WORDS):
        if cards[card, at + FROM] == NONE:
            cards[card, at + FROM] = block
        if time > cards[card, at + BORDER]:
            cards[card, at + IN_COUNT] += 1
            cards[card, at + IN_SUM] += amount
    older = block
    while older != NONE and blocks[older, LOW] > time:
        blocks[older, LOW] = time
        older = blocks[older, PREV]
    return block


@kernel
def free_dead(
    card: int,
    floor: int,
    future: int,
    cards: Int64,
    blocks: Int64,
    marks: NDArray[np.uint8],
    touched: NDArray[np.int32],
    scalars: Int64,
) -> None:
    """Free a card's oldest blocks with nothing after `floor`; one that holds a time after `future` stays, and holds up no other."""
    block = cards[card, HAND]
    while block != NONE and block != cards[card, WINDOW + 2 * WINDOW_WORDS + FROM]:
        following = blocks[block, NEXT]
        if blocks[block, MAX_T] <= floor:
            unlink(block, cards, blocks)
            touch(block, marks, touched, scalars)
        elif blocks[block, MAX_T] <= future:
            break
        block = following
    cards[card, HAND] = block


@kernel
def mark_again(
    card: int,
    offset: int,
    cards: Int64,
    blocks: Int64,
    marks: NDArray[np.uint8],
    touched: NDArray[np.int32],
    scalars: Int64,
) -> None:
    """Report the block of a redelivered event once more."""
    block = cards[card, TAIL]
    while block != NONE and blocks[block, ENTRIES + 2] > offset:
        block = blocks[block, PREV]
    if block != NONE and last_offset(block, blocks) >= offset:
        touch(block, marks, touched, scalars)


@kernel
def apply(
    card_of: Int64,
    times: Int64,
    amounts: Int64,
    offsets: Int64,
    span: int,
    floor: int,
    cards: Int64,
    blocks: Int64,
    marks: NDArray[np.uint8],
    touched: NDArray[np.int32],
    free: NDArray[np.int32],
    scalars: Int64,
    top: Int64,
    windows: NDArray[np.float64],
) -> None:
    """Apply one partition's events in offset order, and write each one's windows.

    Args:
        card_of: row of `cards` of each event; `offsets` ascend.
        span: how far behind the watermark, in ms, an event still counts.
        floor: blocks with no event time after it are freed.
        windows: float64 [n, 9], written: count, sum and mean for each of `WINDOWS_MS`.
    """
    found = np.empty((3, 2), np.int64)
    since = np.empty(3, np.int64)
    for i in range(card_of.shape[0]):
        card, time, amount, offset = card_of[i], times[i], amounts[i], offsets[i]
        if offset > scalars[POSITION]:
            scalars[POSITION] = offset
            if time > top[0]:
                witness(time, top)
        horizon = NEVER if top[0] == NEVER else top[0] - span
        future = top[0] + DAY_MS
        since[0] = max(time - SHORT, horizon)
        since[1] = max(time - MIDDLE, horizon)
        since[2] = max(time - LONG, horizon)
        if cards[card, NEWEST] == VACANT:
            occupy(card, cards)
        again = offset <= cards[card, APPLIED]
        if not again and cards[card, STALE] == VACANT:
            recount(card, cards, blocks)
        if time <= horizon:
            found[:] = 0
        elif again or time <= cards[card, STALE] or time > future:
            walk(time, offset, since, card, cards, blocks, found)
        else:
            look(time, since, card, cards, blocks, found)
        if again:
            mark_again(card, offset, cards, blocks, marks, touched, scalars)
        elif time > horizon:
            touch(keep(card, time, amount, offset, cards, blocks, free, scalars), marks, touched, scalars)
            free_dead(card, floor, future, cards, blocks, marks, touched, scalars)
        for w in range(3):
            count = found[w, 0] + 1
            total = (found[w, 1] + amount) / MICRO
            windows[i, 3 * w] = count
            windows[i, 3 * w + 1] = total
            windows[i, 3 * w + 2] = total / count


@kernel
def sweep(
    steps: int,
    used: int,
    floor: int,
    cards: Int64,
    blocks: Int64,
    marks: NDArray[np.uint8],
    touched: NDArray[np.int32],
    scalars: Int64,
) -> Int64:
    """Look at the next `steps` of the `used` cards in turn, drop those with nothing after `floor`, and return them."""
    steps = min(steps, used)
    gone = np.empty(steps, np.int64)
    found = 0
    for _ in range(steps):
        card = scalars[CURSOR] % used
        scalars[CURSOR] = card + 1
        if cards[card, NEWEST] > floor:
            continue
        while cards[card, TAIL] != NONE:
            block = cards[card, TAIL]
            unlink(block, cards, blocks)
            touch(block, marks, touched, scalars)
        cards[card, NEWEST] = VACANT
        gone[found] = card
        found += 1
    return gone[:found]


@kernel
def drain(
    blocks: Int64, marks: NDArray[np.uint8], touched: NDArray[np.int32], free: NDArray[np.int32], scalars: Int64
) -> tuple[Int64, Int64, Int64, Int64]:
    """Report the blocks touched since the last call, and let the empty ones be used again.

    Returns:
        cards, first offsets and ends [m] (where the block's entries end in the fourth, in words; equal to the end before where the
        block is gone), and all their entries one after the other.
    """
    number = scalars[TOUCHED]
    owners, firsts, ends = np.empty(number, np.int64), np.empty(number, np.int64), np.empty(number, np.int64)
    end = 0
    for i in range(number):
        block = touched[i]
        owners[i] = blocks[block, CARD]
        firsts[i] = blocks[block, ENTRIES + 2]
        end += 3 * blocks[block, COUNT]
        ends[i] = end
    entries = np.empty(end, np.int64)
    end = 0
    for i in range(number):
        block = touched[i]
        words = 3 * blocks[block, COUNT]
        for at in range(words):
            entries[end + at] = blocks[block, ENTRIES + at]
        end += words
        marks[block] = 0
        if words == 0:
            free[scalars[FREE]] = block
            scalars[FREE] += 1
    scalars[TOUCHED] = 0
    return owners, firsts, ends, entries


@kernel
def restore(
    card_of: Int64,
    firsts: Int64,
    ends: Int64,
    entries: Int64,
    cards: Int64,
    blocks: Int64,
    marks: NDArray[np.uint8],
    touched: NDArray[np.int32],
    free: NDArray[np.int32],
    scalars: Int64,
) -> Int64:
    """Put reported blocks back, in any order; of one block the record with the larger last offset wins.

    Returns:
        the cards named here that hold nothing, once each; their rows are vacant.
    """
    for i in range(card_of.shape[0]):
        card, first = card_of[i], firsts[i]
        start = ends[i - 1] if i > 0 else 0
        if cards[card, NEWEST] == VACANT:
            occupy(card, cards)
        cards[card, STALE] = VACANT
        after = cards[card, TAIL]
        while after != NONE and blocks[after, ENTRIES + 2] > first:
            after = blocks[after, PREV]
        same = after != NONE and blocks[after, ENTRIES + 2] == first
        gone = start == ends[i]
        if same and (gone or entries[ends[i] - 1] > last_offset(after, blocks)):
            block, after = after, blocks[after, PREV]
            unlink(block, cards, blocks)
            if marks[block] == 0:
                free[scalars[FREE]] = block
                scalars[FREE] += 1
        elif same or gone:
            continue
        if gone:
            cards[card, NEWEST] = NEVER
            block = cards[card, TAIL]
            while block != NONE:
                cards[card, NEWEST] = max(cards[card, NEWEST], blocks[block, MAX_T])
                block = blocks[block, PREV]
            continue
        block = append_block(card, after, cards, blocks, free, scalars)
        for at in range(start, ends[i], 3):
            write_entry(block, entries[at], entries[at + 1], entries[at + 2], cards, blocks)
        scalars[POSITION] = max(scalars[POSITION], entries[ends[i] - 1])
    empty = np.empty(card_of.shape[0], np.int64)
    found = 0
    for card in card_of:
        if cards[card, NEWEST] != VACANT and cards[card, TAIL] == NONE:
            cards[card, NEWEST] = VACANT
            empty[found] = card
            found += 1
    return empty[:found]
