"""Hashes of transactions against zlib."""

from __future__ import annotations

import random
from zlib import crc32

import numpy as np
import pytest

from models.cells import Cells
from models.fraud.hashes import transaction_hashes


def drawn(seed: int, count: int) -> list[bytes]:
    dice = random.Random(seed)
    return [dice.randbytes(dice.choice([0, 1, 2, 3, 8, 16, 255, 300])) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("column", [list, Cells.of], ids=["lists", "cells"])
def test_a_hash_is_the_crc_of_the_card_and_the_id_behind_it(column: type[list[bytes]], count: int) -> None:
    ids, cards = drawn(1, count), drawn(2, count)
    hashes = transaction_hashes(column(ids), column(cards))
    assert hashes.dtype == np.int64
    assert hashes.tolist() == [crc32(number, crc32(card)) for number, card in zip(ids, cards, strict=True)]


def test_every_byte_counts() -> None:
    ids = [bytes([byte]) for byte in range(256)]
    assert transaction_hashes(ids, [b""] * 256).tolist() == [crc32(each) for each in ids]
    assert transaction_hashes([b""] * 256, ids).tolist() == [crc32(each) for each in ids]


def test_empty_ids_and_cards_have_the_hash_of_nothing() -> None:
    assert transaction_hashes([b"", b"t", b""], [b"", b"", b"c"]).tolist() == [0, crc32(b"t"), crc32(b"c")]


def test_known_hashes_stay_since_topics_keep_them() -> None:
    assert transaction_hashes([b"6789"], [b"12345"]).tolist() == [0xCBF43926]  # CRC-32's check value
