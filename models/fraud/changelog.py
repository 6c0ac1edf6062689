"""The changelog of a card history: one record a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.cells import Bytes, Cells, Ends
from models.engine import ModelError
from models.fraud.blocks import (
    CAPACITY,
    CARD,
    COUNT,
    ENTRIES,
    FREE,
    NEWEST,
    NONE,
    POSITION,
    PREV,
    REACHED,
    TAIL,
    TIME_LIMIT_MS,
    TOUCHED,
    VACANT,
    Int64,
    Slabs,
    kernel,
    last_offset,
    link,
    occupy,
    unlink,
    write,
)

SUFFIX = 9  # bytes behind the card in a record's key: a zero and the offset
ENTRY_BYTES = 24


class HistoryCorrupt(ModelError, ValueError):
    """A changelog record cannot be what `CardHistory.changes` wrote."""


@kernel
def drain(slabs: Slabs) -> tuple[Int64, Int64, Int64, Int64]:
    """Report the blocks touched since the last call, and let the empty ones be used again.

    Returns:
        cards, first offsets and ends [m]: the block's entries end there in the fourth, in words, and begin where
        those before end; a block that is gone has none.
    """
    blocks, scalars = slabs.blocks, slabs.scalars
    touched = slabs.touched[: scalars[TOUCHED]]
    owners, firsts, ends = (
        np.empty(len(touched), np.int64),
        np.empty(len(touched), np.int64),
        np.empty(len(touched), np.int64),
    )
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


@kernel
def suffixed(names: Bytes, name_ends: Ends, firsts: Int64) -> tuple[Bytes, Ends]:
    """The keys of records: a zero and a first offset behind each name."""
    keys, ends = np.empty(len(names) + SUFFIX * len(firsts), np.uint8), np.empty(len(firsts), np.int64)
    at = begin = 0
    for i in range(len(firsts)):
        for byte in range(begin, name_ends[i]):
            keys[at + byte - begin] = names[byte]
        at += name_ends[i] - begin
        begin = name_ends[i]
        keys[at] = 0
        for place in range(SUFFIX - 1):
            keys[at + 1 + place] = (firsts[i] >> (8 * (SUFFIX - 2 - place))) & 0xFF
        at += SUFFIX
        ends[i] = at
    return keys, ends


def encode(names: Cells[bytes], firsts: Int64, ends: Int64, entries: Int64) -> tuple[Cells[bytes], Cells[bytes | None]]:
    """Keys and values of the records for what `drain` returned, given the names of its cards."""
    keys: Cells[bytes] = Cells(*suffixed(names.blob, names.ends, firsts))
    stops = 8 * ends
    return keys, Cells(
        entries.astype("<i8", copy=False).view(np.uint8), np.where(np.diff(stops, prepend=0) > 0, stops, ~stops)
    )


def decode(keys: Sequence[bytes], values: Sequence[bytes | None]) -> tuple[Int64, Int64, Int64]:
    """First offset [n] of each record, where its entries end [n] in the third, in words, and all entries; or raise."""
    for key in keys:
        if type(key) is not bytes or len(key) < SUFFIX:
            raise HistoryCorrupt(_refusal(key, "expected card, zero byte, offset as its key"))
    suffixes = np.frombuffer(b"".join([key[-SUFFIX:] for key in keys]), np.uint8).reshape(-1, SUFFIX)
    firsts = suffixes[:, 1:].copy().view(">i8").ravel().astype(np.int64)
    _refuse(keys, (suffixes[:, 0] != 0) | (firsts < 0), "expected card, zero byte, offset as its key")
    contents = [b"" if value is None else value for value in values]
    sizes = np.fromiter(map(len, contents), np.int64, len(contents))
    odd = (sizes % ENTRY_BYTES != 0) | (sizes > ENTRY_BYTES * CAPACITY)
    odd[[i for i in np.flatnonzero(sizes == 0).tolist() if values[i] is not None]] = True
    _refuse(keys, odd, f"expected 1 to {CAPACITY} entries of {ENTRY_BYTES} bytes as its value")
    entries = np.frombuffer(b"".join(contents), "<i8").astype(np.int64)
    ends = np.cumsum(sizes) // 8
    filled = np.flatnonzero(sizes)
    starts = (ends - sizes // 8)[filled] // 3
    times, offsets = entries[0::3], entries[2::3]
    falls = np.diff(offsets, prepend=-1) <= 0
    falls[starts] = offsets[starts] != firsts[filled]
    falls |= (times > TIME_LIMIT_MS) | (times < -TIME_LIMIT_MS)
    odd[filled] = np.add.reduceat(falls, starts) > 0 if len(filled) else False
    _refuse(keys, odd, "expected entries with ascending offsets from that of its key on")
    return firsts, ends, entries


def _refuse(keys: Sequence[bytes], odd: NDArray[np.bool_], why: str) -> None:
    if odd.any():
        raise HistoryCorrupt(_refusal(keys[int(odd.argmax())], why))


def _refusal(key: object, why: str) -> str:
    return f"restoring card history: record with key {key!r}: {why}; nothing of its batch was restored"
