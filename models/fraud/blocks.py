"""Compiled kernels over the blocks that hold every card's recent transactions.

A card's entries hang in a linked list of blocks of `CAPACITY` entries, in the order of their input offsets. A row of `blocks` is a
block: eight words of header, then the entries, three words each: event time in ms, amount in millionths, input offset. A row of
`cards` is a card, with running counts and sums of its windows, so that an event in time order costs the same whatever the card
holds, and one out of order as much as it is out of order. All that is kept beside the entries can be rebuilt from them (`recount`).

What is freed stays untouched until `drain` has reported it, so a block's number means one thing between two reports. Every kernel
releases the GIL and must have its slabs to itself. They share one file because the cache on disk follows no imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit  # type: ignore[import-untyped]
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Int64 = NDArray[np.int64]

CAPACITY = 8  # entries a block
# Columns of a block. PEAK: the largest time in it and all older ones; LOW: the smallest in it and all newer ones.
PREV, NEXT, MIN_T, MAX_T, PEAK, LOW, COUNT, CARD, ENTRIES = range(9)
BLOCK_WORDS = ENTRIES + 3 * CAPACITY
# Columns of a card: newest block, largest event time, oldest block that may be freed, event time that its windows have reached.
TAIL, NEWEST, HAND, REACHED, WINDOW = range(5)
# Then for each window: count and sum of the entries after REACHED - W, no block before FROM has any, none is before EDGE.
IN_COUNT, IN_SUM, FROM, EDGE = range(4)
WINDOW_WORDS = 4
CARD_WORDS = WINDOW + 3 * WINDOW_WORDS
POSITION, USED, FREE, TOUCHED, CURSOR = range(5)  # last offset, blocks ever used, heights of two stacks, next card to sweep
NONE = -1
NEVER = np.iinfo(np.int64).min  # event time of a card without entries
START = NEVER // 2  # REACHED by windows that hold everything
VACANT = np.iinfo(np.int64).max  # NEWEST in a row of `cards` that no card uses, REACHED where the windows must be recounted
DAY_MS = 86_400_000
SHORT, MIDDLE, LONG = WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
WITNESSES = 16  # events that must have reached a time before the watermark does
MICRO = 1e6
AHEAD = 128  # events whose memory is fetched together


class Slabs(NamedTuple):
    """The arrays that the kernels work on."""

    cards: Int64  # [cards, CARD_WORDS]
    blocks: Int64  # [blocks, BLOCK_WORDS]
    marks: NDArray[np.uint8]  # [blocks], 1: in `touched`
    touched: NDArray[np.int32]  # [blocks], a stack
    free: NDArray[np.int32]  # [blocks], a stack
    scalars: Int64
    top: Int64  # [WITNESSES] largest event times, ascending; the first is the watermark


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile without the GIL on first use, and keep the machine code on disk."""
    return cast(Callable[P, R], njit(nogil=True, cache=True, error_model="numpy")(function))


@kernel
def touch(marks: NDArray[np.uint8], touched: NDArray[np.int32], scalars: Int64, block: int) -> None:
    """Note that a block has changed since the last report, once."""
    if marks[block] == 0:
        marks[block] = 1
        touched[scalars[TOUCHED]] = block
        scalars[TOUCHED] += 1


@kernel
def occupy(cards: Int64, card: int) -> None:
    """Begin a card without entries."""
    cards[card, TAIL] = NONE
    cards[card, NEWEST] = NEVER
    cards[card, REACHED] = VACANT


@kernel
def unlink(cards: Int64, blocks: Int64, block: int) -> None:
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
def free_block(slabs: Slabs, block: int) -> int:
    """Take a block out of its card's list, to be reported as gone; return the next one."""
    following = slabs.blocks[block, NEXT]
    unlink(slabs.cards, slabs.blocks, block)
    touch(slabs.marks, slabs.touched, slabs.scalars, block)
    return following


@kernel
def link(cards: Int64, blocks: Int64, free: NDArray[np.int32], scalars: Int64, card: int, after: int) -> int:
    """Put an empty block into a card's list behind block `after` (`NONE`: at its head)."""
    if scalars[FREE] > 0:
        scalars[FREE] -= 1
        block = np.int64(free[scalars[FREE]])
    else:
        block = scalars[USED]
        scalars[USED] += 1
    following = np.int64(NONE)
    if after == cards[card, TAIL]:
        cards[card, TAIL] = block
    elif after != NONE:
        following = blocks[after, NEXT]
    else:
        following = cards[card, TAIL]
        while blocks[following, PREV] != NONE:
            following = blocks[following, PREV]
    if after != NONE:
        blocks[after, NEXT] = block
    if following != NONE:
        blocks[following, PREV] = block
    blocks[block, PREV] = after
    blocks[block, NEXT] = following
    blocks[block, CARD] = card
    blocks[block, COUNT] = 0
    blocks[block, MIN_T] = blocks[block, LOW] = VACANT
    blocks[block, MAX_T] = NEVER
    blocks[block, PEAK] = NEVER if after == NONE else blocks[after, PEAK]
    return block


@kernel
def write(cards: Int64, blocks: Int64, block: int, time: int, amount: int, offset: int) -> None:
    """Append an entry to a block that has room."""
    at = ENTRIES + 3 * blocks[block, COUNT]
    blocks[block, at] = time
    blocks[block, at + 1] = amount
    blocks[block, at + 2] = offset
    blocks[block, COUNT] += 1
    blocks[block, MIN_T] = min(blocks[block, MIN_T], time)
    blocks[block, MAX_T] = max(blocks[block, MAX_T], time)
    card = blocks[block, CARD]
    cards[card, NEWEST] = max(cards[card, NEWEST], time)


@kernel
def last_offset(blocks: Int64, block: int) -> int:
    """The offset of a block's last entry; `NONE` for no block."""
    return blocks[block, ENTRIES + 3 * blocks[block, COUNT] - 1] if block != NONE else np.int64(NONE)


@kernel
def witness(top: Int64, time: int) -> None:
    """Put a time among the largest ones in place of their smallest."""
    at = 0
    while at + 1 < top.shape[0] and top[at + 1] < time:
        top[at] = top[at + 1]
        at += 1
    top[at] = time


@kernel
def witness_again(slabs: Slabs, offset: int) -> None:
    """Find the largest event times among the entries held whose offset is below `offset`."""
    blocks, top = slabs.blocks, slabs.top
    top[:] = NEVER
    for block in range(slabs.scalars[USED]):
        if blocks[block, COUNT] == 0 or blocks[block, MAX_T] <= top[0]:
            continue
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if blocks[block, at + 2] < offset and blocks[block, at] > top[0]:
                witness(top, blocks[block, at])


@kernel
def between(blocks: Int64, block: int, after: int, until: int) -> tuple[int, int]:
    """Count and sum of a block's entries with times in (after, until]."""
    count = total = 0
    if blocks[block, MAX_T] > after and blocks[block, MIN_T] <= until:
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if after < blocks[block, at] <= until:
                count += 1
                total += blocks[block, at + 1]
    return count, total


@kernel
def recount(cards: Int64, blocks: Int64, card: int) -> None:
    """Rebuild from a card's entries what the card and its blocks say about them."""
    low, block, head = np.int64(VACANT), cards[card, TAIL], np.int64(NONE)
    while block != NONE:
        low = min(low, blocks[block, MIN_T])
        blocks[block, LOW] = low
        head, block = block, blocks[block, PREV]
    peak, block, count, total = np.int64(NEVER), head, 0, 0
    while block != NONE:
        peak = max(peak, blocks[block, MAX_T])
        blocks[block, PEAK] = peak
        more = between(blocks, block, NEVER, VACANT)
        count, total = count + more[0], total + more[1]
        block = blocks[block, NEXT]
    cards[card, HAND], cards[card, REACHED] = head, START
    for at in range(WINDOW, CARD_WORDS, WINDOW_WORDS):
        cards[card, at + IN_COUNT], cards[card, at + IN_SUM] = count, total
        cards[card, at + FROM], cards[card, at + EDGE] = head, low


@kernel
def leave(cards: Int64, blocks: Int64, card: int, at: int, passed: int, border: int) -> None:
    """Take the entries in (passed, border] out of a card's window."""
    block, edge = cards[card, at + FROM], np.int64(VACANT)
    while block != NONE and blocks[block, LOW] <= border:
        for entry in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            time = blocks[block, entry]
            if time > border:
                edge = min(edge, time)
            elif time > passed:
                cards[card, at + IN_COUNT] -= 1
                cards[card, at + IN_SUM] -= blocks[block, entry + 1]
        following = blocks[block, NEXT]
        if blocks[block, PEAK] <= border and following != NONE:
            cards[card, at + FROM] = following
        block = following
    cards[card, at + EDGE] = edge if block == NONE else min(edge, blocks[block, LOW])


@kernel
def left(cards: Int64, blocks: Int64, card: int, at: int, after: int, border: int) -> tuple[int, int]:
    """Count and sum of a card's entries in (after, border], which have left its window."""
    start = cards[card, at + FROM]
    count = total = 0
    block = start
    while block != NONE and blocks[block, PEAK] > after:
        more = between(blocks, block, after, border)
        count, total = count + more[0], total + more[1]
        block = blocks[block, PREV]
    block = blocks[start, NEXT] if start != NONE else np.int64(NONE)
    while block != NONE and blocks[block, LOW] <= border:
        more = between(blocks, block, after, border)
        count, total = count + more[0], total + more[1]
        block = blocks[block, NEXT]
    return count, total


@kernel
def look(cards: Int64, blocks: Int64, card: int, time: int, found: Int64) -> None:
    """Windows of a new event from its card's running ones; `found` [3, 2], written: count and sum without the event itself."""
    newer = newer_sum = 0
    if time < cards[card, NEWEST]:
        block = cards[card, TAIL]
        while block != NONE and blocks[block, PEAK] > time:
            more = between(blocks, block, time, VACANT)
            newer, newer_sum = newer + more[0], newer_sum + more[1]
            block = blocks[block, PREV]
    reached = cards[card, REACHED]
    cards[card, REACHED] = max(reached, time)
    for w in range(3):
        at, since = WINDOW + w * WINDOW_WORDS, time - WINDOWS_MS[w]
        if since >= cards[card, at + EDGE] and time > reached:
            leave(cards, blocks, card, at, reached - WINDOWS_MS[w], since)
        found[w, 0] = cards[card, at + IN_COUNT] - newer
        found[w, 1] = cards[card, at + IN_SUM] - newer_sum
        if time < reached:
            more = left(cards, blocks, card, at, since, reached - WINDOWS_MS[w])
            found[w, 0] += more[0]
            found[w, 1] += more[1]


@kernel
def walk(cards: Int64, blocks: Int64, card: int, time: int, offset: int, horizon: int, found: Int64) -> None:
    """Windows of any event, from all of its card's entries after `horizon` with offsets below its own; `found` as in `look`."""
    found[:] = 0
    block = cards[card, TAIL]
    while block != NONE:
        if blocks[block, MAX_T] > time - LONG and blocks[block, MIN_T] <= time:
            for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
                when = blocks[block, at]
                if horizon < when <= time and blocks[block, at + 2] < offset:
                    for w in range(3):
                        if when > time - WINDOWS_MS[w]:
                            found[w, 0] += 1
                            found[w, 1] += blocks[block, at + 1]
        block = blocks[block, PREV]


@kernel
def keep(cards: Int64, blocks: Int64, card: int, block: int, time: int, amount: int, offset: int) -> None:
    """Append a new event to its card, whose windows are not stale, in its newest block, which has room."""
    write(cards, blocks, block, time, amount, offset)
    blocks[block, PEAK] = max(blocks[block, PEAK], time)
    for w in range(3):
        at = WINDOW + w * WINDOW_WORDS
        if time > cards[card, REACHED] - WINDOWS_MS[w]:
            cards[card, at + IN_COUNT] += 1
            cards[card, at + IN_SUM] += amount
            cards[card, at + EDGE] = min(cards[card, at + EDGE], time)
    while block != NONE and blocks[block, LOW] > time:
        blocks[block, LOW] = time
        block = blocks[block, PREV]


@kernel
def begin_windows(cards: Int64, card: int, block: int) -> None:
    """Let the windows of a card that held nothing begin at its first block."""
    if cards[card, HAND] == NONE:
        cards[card, HAND] = block
        for at in range(WINDOW, CARD_WORDS, WINDOW_WORDS):
            cards[card, at + FROM] = block


@kernel
def free_dead(slabs: Slabs, card: int, floor: int, future: int) -> None:
    """Free a card's blocks with nothing after `floor`, oldest first; its newest one stays.

    No window's FROM passes a block with a time after `future`: behind such a one all blocks are looked at.
    """
    cards, blocks = slabs.cards, slabs.blocks
    start = cards[card, WINDOW + 2 * WINDOW_WORDS + FROM]
    block = cards[card, HAND]
    while block != start and blocks[block, MAX_T] <= floor:
        block = free_block(slabs, block)
    cards[card, HAND] = block
    if blocks[start, MAX_T] > future:
        block = blocks[start, NEXT]
        while block != NONE and block != cards[card, TAIL]:
            block = free_block(slabs, block) if blocks[block, MAX_T] <= floor else blocks[block, NEXT]


@kernel
def touch_again(slabs: Slabs, card: int, offset: int) -> None:
    """Report the block of a redelivered event once more."""
    blocks, block = slabs.blocks, slabs.cards[card, TAIL]
    while block != NONE and blocks[block, ENTRIES + 2] > offset:
        block = blocks[block, PREV]
    if last_offset(blocks, block) >= offset:
        touch(slabs.marks, slabs.touched, slabs.scalars, block)


@kernel
def fetch(cards: Int64, blocks: Int64, card_of: Int64, begin: int, end: int) -> int:
    """Read what the events of these cards will need: independent loads overlap, those of one event after the other do not."""
    seen = 0
    for i in range(begin, end):
        card = card_of[i]
        seen += cards[card, TAIL] + cards[card, CARD_WORDS - 1]
    for i in range(begin, end):
        card = card_of[i]
        if cards[card, REACHED] == VACANT or cards[card, TAIL] == NONE:
            continue
        block = cards[card, TAIL]
        seen += blocks[block, 0] + blocks[block, ENTRIES + 3 * (blocks[block, COUNT] % CAPACITY)]
        for at in range(WINDOW + FROM, CARD_WORDS, WINDOW_WORDS):
            block = cards[card, at]
            seen += blocks[block, 0] + blocks[block, ENTRIES + 4] + blocks[block, ENTRIES + 12] + blocks[block, ENTRIES + 20]
    return seen


@kernel
def apply(
    slabs: Slabs, card_of: Int64, times: Int64, amounts: Int64, offsets: Int64, span: int, floor: int,
    windows: NDArray[np.float64],
) -> int:  # fmt: skip
    """Apply one partition's events in offset order, and write each one's windows.

    Args:
        card_of: row of `cards` of each event; `offsets` ascend.
        span: how far behind the watermark, in ms, an event still counts.
        floor: blocks with no event time after it are freed.
        windows: float64 [n, 9], written: count, sum and mean for each of `WINDOWS_MS`.
    """
    cards, blocks, scalars, top, marks, touched = (
        slabs.cards, slabs.blocks, slabs.scalars, slabs.top, slabs.marks, slabs.touched
    )  # fmt: skip
    found = np.empty((3, 2), np.int64)
    seen = 0
    for i in range(card_of.shape[0]):
        if i % AHEAD == 0:
            seen += fetch(cards, blocks, card_of, i, min(i + AHEAD, len(card_of)))
        card, time, amount, offset = card_of[i], times[i], amounts[i], offsets[i]
        if offset > scalars[POSITION]:
            scalars[POSITION] = offset
            if time > top[0]:
                witness(top, time)
        horizon = NEVER if top[0] == NEVER else top[0] - span
        future = top[0] + DAY_MS
        if cards[card, NEWEST] == VACANT:
            occupy(cards, card)
        again = offset <= last_offset(blocks, cards[card, TAIL])
        if not again and cards[card, REACHED] == VACANT:
            recount(cards, blocks, card)
        late = time - LONG < horizon or time <= cards[card, REACHED] - SHORT
        if again or late or time > future:
            walk(cards, blocks, card, time, offset, horizon, found)
        else:
            look(cards, blocks, card, time, found)
        if again:
            touch_again(slabs, card, offset)
        elif time > horizon:
            block = cards[card, TAIL]
            if block == NONE or blocks[block, COUNT] == CAPACITY:
                block = link(cards, blocks, slabs.free, scalars, card, block)
                begin_windows(cards, card, block)
                free_dead(slabs, card, floor, future)
            keep(cards, blocks, card, block, time, amount, offset)
            touch(marks, touched, scalars, block)
        for w in range(3):
            count = found[w, 0] + 1
            total = (found[w, 1] + amount) / MICRO
            windows[i, 3 * w] = count
            windows[i, 3 * w + 1] = total
            windows[i, 3 * w + 2] = total / count
    return seen


@kernel
def sweep(slabs: Slabs, steps: int, rows: int, floor: int) -> Int64:
    """Look at the next `steps` of the first `rows` cards in turn, drop those with nothing after `floor`, and return them."""
    cards, scalars = slabs.cards, slabs.scalars
    steps = min(steps, rows)
    gone = np.empty(steps, np.int64)
    found = 0
    for _ in range(steps):
        card = scalars[CURSOR] if scalars[CURSOR] < rows else 0
        scalars[CURSOR] = card + 1
        if cards[card, NEWEST] > floor:
            continue
        while cards[card, TAIL] != NONE:
            free_block(slabs, cards[card, TAIL])
        cards[card, NEWEST] = VACANT
        gone[found] = card
        found += 1
    return gone[:found]


@kernel
def drain(slabs: Slabs) -> tuple[Int64, Int64, Int64, Int64]:
    """Report the blocks touched since the last call, and let the empty ones be used again.

    Returns:
        cards, first offsets and ends [m]: the block's entries end there in the fourth, in words, and begin where those before end;
        a block that is gone has none.
    """
    blocks, scalars = slabs.blocks, slabs.scalars
    touched = slabs.touched[: scalars[TOUCHED]]
    owners, firsts, ends = np.empty(len(touched), np.int64), np.empty(len(touched), np.int64), np.empty(len(touched), np.int64)
    end = 0
    for i, block in enumerate(touched):
        owners[i] = blocks[block, CARD]
        firsts[i] = blocks[block, ENTRIES + 2]
        end += 3 * blocks[block, COUNT]
        ends[i] = end
    entries = np.empty(end, np.int64)
    end = 0
    for block in touched:
        slabs.marks[block] = 0
        if blocks[block, COUNT] == 0:
            slabs.free[scalars[FREE]] = block
            scalars[FREE] += 1
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT]):
            entries[end] = blocks[block, at]
            end += 1
    scalars[TOUCHED] = 0
    return owners, firsts, ends, entries


@kernel
def restore(slabs: Slabs, card_of: Int64, firsts: Int64, ends: Int64, entries: Int64) -> Int64:
    """Put reported blocks back, in any order; of one block the record with the larger last offset wins.

    Returns:
        the cards named here that hold nothing, once each; their rows are vacant.
    """
    cards, blocks, scalars = slabs.cards, slabs.blocks, slabs.scalars
    start = 0
    for i in range(len(card_of)):
        card, first, begin, end = card_of[i], firsts[i], start, ends[i]
        start = end
        if cards[card, NEWEST] == VACANT:
            occupy(cards, card)
        cards[card, REACHED] = VACANT
        after = cards[card, TAIL]
        while after != NONE and blocks[after, ENTRIES + 2] > first:
            after = blocks[after, PREV]
        if after != NONE and blocks[after, ENTRIES + 2] == first:
            if begin < end and entries[end - 1] <= last_offset(blocks, after):
                continue
            block, after = after, blocks[after, PREV]
            unlink(slabs.cards, slabs.blocks, block)
            if slabs.marks[block] == 0:
                slabs.free[scalars[FREE]] = block
                scalars[FREE] += 1
        if begin < end:
            block = link(cards, blocks, slabs.free, scalars, card, after)
            for at in range(begin, end, 3):
                write(cards, blocks, block, entries[at], entries[at + 1], entries[at + 2])
            scalars[POSITION] = max(scalars[POSITION], entries[end - 1])
    empty = np.empty(len(card_of), np.int64)
    found = 0
    for card in card_of:
        if cards[card, NEWEST] != VACANT and cards[card, TAIL] == NONE:
            cards[card, NEWEST] = VACANT
            empty[found] = card
            found += 1
    return empty[:found]
