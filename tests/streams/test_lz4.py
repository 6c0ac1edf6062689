"""LZ4 frames, read back by the library's own reader of frames and by the client's."""

from __future__ import annotations

import random

import cramjam
import pytest
from aiokafka.codec import lz4_decode

from streams.lz4 import BLOCK_BYTES, compress

FRAME_BYTES = 7 + 4  # header and end mark
BLOCK_HEAD_BYTES = 4


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


DATA = {
    "empty": b"",
    "a byte": b"x",
    "short": b"short",
    "zeros": bytes(100),
    "a block": noise(BLOCK_BYTES),
    "a block and a byte": noise(BLOCK_BYTES + 1),
    "incompressible": noise(3 * BLOCK_BYTES + 77),
    "repetitive": b'{"transaction_id":"t","flagged":false}' * 100_000,
    "both": noise(BLOCK_BYTES) + bytes(2 * BLOCK_BYTES) + noise(1000) + b"ab" * BLOCK_BYTES,
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_what_goes_in_comes_out(data: bytes) -> None:
    frame = compress(data)
    assert bytes(cramjam.lz4.decompress(frame)) == data
    assert lz4_decode(frame) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("name", ["empty", "short", "both"])
def test_any_buffer_will_do(kind: type[bytes], name: str) -> None:
    assert compress(kind(DATA[name])) == compress(DATA[name])


def test_a_part_of_a_buffer_is_compressed_alone() -> None:
    data = DATA["both"]
    assert lz4_decode(compress(memoryview(bytearray(data))[61:])) == data[61:]


@pytest.mark.parametrize("size", [1, 12, 1000, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 77])
def test_incompressible_data_grows_by_the_heads_of_its_blocks_alone(size: int) -> None:
    blocks = -(-size // BLOCK_BYTES)
    assert len(compress(noise(size))) == FRAME_BYTES + blocks * BLOCK_HEAD_BYTES + size


def test_repetitive_data_shrinks() -> None:
    assert len(compress(DATA["repetitive"])) < len(DATA["repetitive"]) // 50


def test_a_damaged_header_is_told_by_its_checksum() -> None:
    frame = compress(DATA["both"])
    with pytest.raises(cramjam.DecompressionError):
        cramjam.lz4.decompress(frame[:5] + bytes([frame[5] ^ 0x10]) + frame[6:])
