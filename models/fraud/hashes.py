"""Hashes of transactions, by which labels find them; they are kept in topics, so they never change."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.cells import Bytes, Cells, Ends
from models.fraud.blocks import Int64, kernel

__all__ = ["transaction_hashes"]

# What a byte makes of the register: the CRC of that byte alone, less the register's other bytes and the inversion.
_TABLE = np.array([crc32(bytes([byte ^ 0xFF])) ^ 0xFFFFFFFF ^ 0x00FFFFFF for byte in range(256)], np.uint32)


def transaction_hashes(transaction_ids: Sequence[bytes], cards: Sequence[bytes]) -> Int64:
    """int64 [n], within uint32: the CRC-32 of a transaction's id, begun with that of its card's."""
    ids, keys = Cells.of(transaction_ids), Cells.of(cards)
    hashes = np.empty(len(ids), np.int64)
    checksums(ids.blob, ids.ends, keys.blob, keys.ends, _TABLE, hashes)
    return hashes


@kernel
def checksums(
    ids: Bytes, id_ends: Ends, cards: Bytes, card_ends: Ends, table: NDArray[np.uint32], hashes: Int64
) -> None:
    """CRC-32 of each card and the id behind it, written."""
    card = number = 0
    for i in range(len(hashes)):
        register = np.uint32(0xFFFFFFFF)
        while card < card_ends[i]:
            register = table[(register ^ cards[card]) & 0xFF] ^ (register >> np.uint32(8))
            card += 1
        while number < id_ends[i]:
            register = table[(register ^ ids[number]) & 0xFF] ^ (register >> np.uint32(8))
            number += 1
        hashes[i] = register ^ np.uint32(0xFFFFFFFF)
