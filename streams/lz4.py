"""LZ4 frames as Kafka takes them: blocks that stand alone, no checksums of their own.

The blocks are compressed by the library without the GIL; its frames would hold it.

References:
    LZ4 Frame Format Description, version 1.6.4.
"""

from __future__ import annotations

import struct

import cramjam

BLOCK_BYTES = 256 << 10
# Magic number; version 1, independent blocks; blocks of at most 256 KiB; checksum of these two bytes.
_HEADER = bytes.fromhex("04224d18 60 50 fb")
_END = bytes(4)
_AS_IT_IS = 1 << 31
_size = struct.Struct("<I").pack


def compress(data: bytes | bytearray | memoryview) -> bytes:
    """One frame that holds `data`."""
    view, parts = memoryview(data), [_HEADER]
    for start in range(0, len(view), BLOCK_BYTES):
        block = bytes(view[start : start + BLOCK_BYTES])
        packed = bytes(cramjam.lz4.compress_block(block, store_size=False))
        parts += (_size(len(packed)), packed) if len(packed) < len(block) else (_size(len(block) | _AS_IT_IS), block)
    return b"".join((*parts, _END))
