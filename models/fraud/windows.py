"""Compiled kernels that answer, for each event, what its card did in the windows before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import (
    CAPACITY,
    CARD_WORDS,
    COUNT,
    EDGE,
    ENTRIES,
    FROM,
    HAND,
    IN_COUNT,
    IN_SUM,
    LONG,
    LOW,
    MAX_T,
    MICRO,
    MIN_T,
    NEVER,
    NEWEST,
    NEXT,
    NONE,
    PEAK,
    PENDING,
    POSITION,
    PREV,
    REACHED,
    SHORT,
    START,
    TAIL,
    VACANT,
    WINDOW,
    WINDOW_WORDS,
    WINDOWS_MS,
    Int,
    Int64,
    Slabs,
    free_block,
    kernel,
    last_offset,
    link,
    occupy,
    touch,
    witness,
    write,
)
from models.fraud.habits import RECENT, compare

AHEAD = 128  # events whose memory is fetched together


@kernel
def between(blocks: Int64, block: Int, after: Int, until: Int) -> tuple[Int, Int]:
    """Count and sum of a block's entries with times in (after, until]."""
    count = total = 0
    if blocks[block, MAX_T] > after and blocks[block, MIN_T] <= until:
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if after < blocks[block, at] <= until:
                count += 1
                total += blocks[block, at + 1]
    return count, total


@kernel
def recount(cards: Int64, blocks: Int64, card: Int) -> None:
    """Rebuild from a card's entries what the card and its blocks say about them."""
    low, block, head = np.int64(VACANT), cards[card, TAIL], np.int64(NONE)
    while block != NONE:
        low = min(low, blocks[block, MIN_T])
        blocks[block, LOW] = low
        head, block = block, blocks[block, PREV]
    count: Int = 0
    total: Int = 0
    peak, block = np.int64(NEVER), head
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
def leave(cards: Int64, blocks: Int64, card: Int, at: Int, passed: Int, border: Int) -> None:
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
def left(cards: Int64, blocks: Int64, card: Int, at: Int, after: Int, border: Int) -> tuple[Int, Int]:
    """Count and sum of a card's entries in (after, border], which have left its window."""
    start = cards[card, at + FROM]
    count: Int = 0
    total: Int = 0
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
def look(cards: Int64, blocks: Int64, card: Int, time: Int, found: Int64) -> None:
    """Windows of a new event from its card's running ones; `found` [3, 2] gets counts and sums without the event."""
    newer: Int = 0
    newer_sum: Int = 0
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
def walk(cards: Int64, blocks: Int64, card: Int, time: Int, offset: Int, horizon: Int, found: Int64) -> None:
    """Windows of any event, from its card's entries after `horizon` with smaller offsets; `found` as in `look`."""
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
def begin_windows(cards: Int64, card: Int, block: Int) -> None:
    """Let the windows of a card that held nothing begin at its first block."""
    if cards[card, HAND] == NONE:
        cards[card, HAND] = block
        for at in range(WINDOW, CARD_WORDS, WINDOW_WORDS):
            cards[card, at + FROM] = block


@kernel
def keep(cards: Int64, blocks: Int64, card: Int, block: Int, time: Int, amount: Int, offset: Int) -> None:
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
def free_dead(slabs: Slabs, card: Int, floor: Int, future: Int) -> None:
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
        unseen = min(floor, cards[card, REACHED] - LONG)  # what the windows have not let go, they must find again
        short, middle = cards[card, WINDOW + FROM], cards[card, WINDOW + WINDOW_WORDS + FROM]
        block = blocks[start, NEXT]
        while block != NONE and block != cards[card, TAIL]:
            needed = blocks[block, MAX_T] > unseen or block in (short, middle)
            block = blocks[block, NEXT] if needed else free_block(slabs, block)


@kernel
def touch_again(slabs: Slabs, card: Int, offset: Int) -> None:
    """Report the block of a redelivered event once more."""
    blocks, block = slabs.blocks, slabs.cards[card, TAIL]
    while block != NONE and blocks[block, ENTRIES + 2] > offset:
        block = blocks[block, PREV]
    if last_offset(blocks, block) >= offset:
        touch(slabs.marks, slabs.touched, slabs.scalars, block)


@kernel
def fetch(cards: Int64, blocks: Int64, card_of: Int64, begin: Int, end: Int) -> Int:
    """Read what these cards' events will need, so that the waits for memory overlap; returns nothing of use."""
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
            seen += (
                blocks[block, 0]
                + blocks[block, ENTRIES + 4]
                + blocks[block, ENTRIES + 12]
                + blocks[block, ENTRIES + 20]
            )
    return seen


@kernel
def apply(
    slabs: Slabs, card_of: Int64, times: Int64, amounts: Int64, offsets: Int64, span: Int, floor: Int,
    held: Int64, windows: NDArray[np.float64], habits: NDArray[np.float64],
) -> Int:  # fmt: skip
    """Apply one partition's events in offset order, and write each one's windows.

    Args:
        card_of: row of `cards` of each event; `offsets` ascend.
        span: how far behind the watermark, in ms, an event still counts; one that is as far ahead moves no window.
        floor: blocks with no event time after it are freed.
        held: [m, 2] offsets, ascending, and event times of entries that the watermark does not know yet.
        windows: float64 [n, 9], written: count, sum and mean for each of `WINDOWS_MS`.
        habits: float64 [n, 7], written: `habits.COLUMNS`; or [0, 7].
    """
    cards, blocks, scalars, top, marks, touched = (
        slabs.cards, slabs.blocks, slabs.scalars, slabs.top, slabs.marks, slabs.touched
    )  # fmt: skip
    found = np.empty((3, 2), np.int64)
    recent_times, recent_amounts = np.empty(RECENT, np.int64), np.empty(RECENT, np.int64)
    seen: Int = 0
    for i in range(card_of.shape[0]):
        if i % AHEAD == 0:
            seen += fetch(cards, blocks, card_of, i, min(i + AHEAD, len(card_of)))
        card, time, amount, offset = card_of[i], times[i], amounts[i], offsets[i]
        if cards[card, NEWEST] == VACANT:
            occupy(cards, card)
        again = offset <= last_offset(blocks, cards[card, TAIL])
        scalars[POSITION] = offset
        while scalars[PENDING] < len(held) and held[scalars[PENDING], 0] <= offset:
            if held[scalars[PENDING], 1] > top[0]:
                witness(top, held[scalars[PENDING], 1])
            scalars[PENDING] += 1
        if not again and time > top[0]:
            witness(top, time)
        horizon = NEVER if top[0] == NEVER else top[0] - span
        future = top[0] + span
        if not again and cards[card, REACHED] == VACANT:
            recount(cards, blocks, card)
        late = time - LONG < horizon or time <= cards[card, REACHED] - SHORT
        if again or late or time > future:
            walk(cards, blocks, card, time, offset, horizon, found)
        else:
            look(cards, blocks, card, time, found)
        if len(habits):
            newest = cards[card, TAIL]
            compare(blocks, newest, time, amount, offset, horizon, recent_times, recent_amounts, habits[i])
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
