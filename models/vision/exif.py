"""The one thing of EXIF that a detector needs: which way up a picture is."""

from __future__ import annotations

ORIENTATION, SHORT, LONG = 0x0112, 3, 4
ENTRY_BYTES = 12


def orientation(tiff: bytes) -> int:
    """1 to 8 from a TIFF block's first directory; 1 where it is absent, damaged or out of range, as viewers take it.

    References: CIPA DC-008 (Exif 2.32), section 4.6.4, tag 274.
    """
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 1

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], "little" if order == "little" else "big")

    directory = number(4, 4)
    count = min(number(directory, 2), (len(tiff) - directory - 2) // ENTRY_BYTES)
    for place in range(directory + 2, directory + 2 + count * ENTRY_BYTES, ENTRY_BYTES):
        if number(place, 2) == ORIENTATION:
            size = {SHORT: 2, LONG: 4}.get(number(place + 2, 2), 0)
            value = number(place + 8, size)
            return value if 1 <= value <= 8 else 1
    return 1
