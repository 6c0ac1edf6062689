"""Compiled kernels over the blocks that hold every card's recent transactions.
 A card's entries hang in a linked list of blocks of `CAPACITY` entries, in the order of their input offsets. A row of
`blocks` is a block: eight words of header, then the entries, three words each: event time in ms, amount in
millionths, input offset. A row of `cards` is a card, with running counts and sums of its windows, so that an event in
time order costs the same whatever the card holds, and one out of order as much as it is out of order. All that is
kept beside the entries can be rebuilt from them (`recount`).
 What is freed stays untouched until `drain` has reported it, so a block's number means one thing between two reports.
Every kernel releases the GIL and must have its slabs to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar, cast
from zlib import crc32

import numpy as np
from numba import njit
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Int = int | np.int64
Int64 = NDArray[np.int64]

CAPACITY = 8  # entries a block
# Columns of a block. PEAK: the largest time in it and all older ones; LOW: the smallest in it and all newer ones.
PREV, NEXT, MIN_T, MAX_T, PEAK, LOW, COUNT, CARD, ENTRIES = range(9)
BLOCK_WORDS = ENTRIES + 3 * CAPACITY
# Columns of a card: newest block, largest event time, oldest block that may be freed, time that its windows reached.
TAIL, NEWEST, HAND, REACHED, WINDOW = range(5)
# Then for each window: count and sum of the entries after REACHED - W; no block before FROM has any, none is before
# EDGE.
IN_COUNT, IN_SUM, FROM, EDGE = range(4)
WINDOW_WORDS = 4
CARD_WORDS = WINDOW + 3 * WINDOW_WORDS
# Scalars: last offset seen, blocks ever used, heights of two stacks, next card to sweep, next entry to witness again.
POSITION, USED, FREE, TOUCHED, CURSOR, PENDING = range(6)
NONE = -1
NEVER = np.iinfo(np.int64).min  # event time of a card without entries
START = NEVER // 2  # REACHED by windows that hold everything
VACANT = np.iinfo(np.int64).max  # NEWEST in an unused row of `cards`, REACHED where the windows must be recounted
DAY_MS = 86_400_000
SHORT, MIDDLE, LONG = WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
TIME_LIMIT_MS = 1 << 60  # event times beyond are refused, so that no sum of times overflows
WITNESSES = 16  # events that must have reached a time before the watermark does
MICRO = 1e6
_INLINED = ("blocks.py", "habits.py", "series.py")  # their kernels are compiled into those of other files
_DIGEST = crc32(b"".join((Path(__file__).parent / name).read_bytes() for name in _INLINED))


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
    """Compile without the GIL on first use, and keep the machine code on disk.

    What is kept is found by name and by the time stamp of the function's own file. Kernels of other files may be
    compiled into it, so the name takes in what those files hold.
    """
    function.__qualname__ += f"_{_DIGEST:08x}"
    return cast(Callable[P, R], njit(nogil=True, cache=True, error_model="numpy")(function))


@kernel
def touch(marks: NDArray[np.uint8], touched: NDArray[np.int32], scalars: Int64, block: Int) -> None:
    """Note that a block has changed since the last report, once."""
    if marks[block] == 0:
        marks[block] = 1
        touched[scalars[TOUCHED]] = block
        scalars[TOUCHED] += 1


@kernel
def occupy(cards: Int64, card: Int) -> None:
    """Begin a card without entries."""
    cards[card, TAIL] = NONE
    cards[card, NEWEST] = NEVER
    cards[card, REACHED] = VACANT


@kernel
def unlink(cards: Int64, blocks: Int64, block: Int) -> None:
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
def free_block(slabs: Slabs, block: Int) -> Int:
    """Take a block out of its card's list, to be reported as gone; return the next one."""
    following: Int = slabs.blocks[block, NEXT]
    unlink(slabs.cards, slabs.blocks, block)
    touch(slabs.marks, slabs.touched, slabs.scalars, block)
    return following


@kernel
def link(cards: Int64, blocks: Int64, free: NDArray[np.int32], scalars: Int64, card: Int, after: Int) -> Int:
    """Put an empty block into a card's list behind block `after` (`NONE`: at its head)."""
    if scalars[FREE] > 0:
        scalars[FREE] -= 1
        block: Int = np.int64(free[scalars[FREE]])
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
def write(cards: Int64, blocks: Int64, block: Int, time: Int, amount: Int, offset: Int) -> None:
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
def last_offset(blocks: Int64, block: Int) -> Int:
    """The offset of a block's last entry; `NONE` for no block."""
    return blocks[block, ENTRIES + 3 * blocks[block, COUNT] - 1] if block != NONE else np.int64(NONE)


@kernel
def witness(top: Int64, time: Int) -> None:
    """Put a time among the largest ones in place of their smallest."""
    at = 0
    while at + 1 < top.shape[0] and top[at + 1] < time:
        top[at] = top[at + 1]
        at += 1
    top[at] = time


@kernel
def witness_again(slabs: Slabs, offset: Int) -> tuple[Int64, Int64]:
    """Find the largest event times among the entries held whose offset is below `offset`.

    Returns:
        offsets and event times of those held from `offset` on that may become witnesses, in no order.
    """
    blocks, top = slabs.blocks, slabs.top
    top[:] = NEVER
    later = 0
    for block in range(slabs.scalars[USED]):
        if blocks[block, COUNT] == 0 or blocks[block, MAX_T] <= top[0]:
            continue
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if blocks[block, at + 2] >= offset:
                later += 1
            elif blocks[block, at] > top[0]:
                witness(top, blocks[block, at])
    offsets, times = np.empty(later, np.int64), np.empty(later, np.int64)
    later = 0
    for block in range(slabs.scalars[USED]):
        if blocks[block, COUNT] == 0 or blocks[block, MAX_T] <= top[0] or last_offset(blocks, block) < offset:
            continue
        for at in range(ENTRIES, ENTRIES + 3 * blocks[block, COUNT], 3):
            if blocks[block, at + 2] >= offset and blocks[block, at] > top[0]:
                offsets[later] = blocks[block, at + 2]
                times[later] = blocks[block, at]
                later += 1
    return offsets[:later], times[:later]


@kernel
def sweep(slabs: Slabs, steps: Int, rows: Int, floor: Int) -> Int64:
    """Look at the next `steps` of the first `rows` cards, drop those with nothing after `floor`, return them."""
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
