"""The allocator of this process."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, MAPPED_FROM_BYTES = 64 << 20, 32 << 20  # the second is the most that glibc takes


def keep_large_blocks() -> None:
    """Have blocks of megabytes reused, where they are freed and asked for again all the time.

    With its own limits glibc maps, faults in and unmaps them each time. Costs up to `KEPT_BYTES` a thread that
    allocates; does nothing where the C library is another one.
    """
    with suppress(AttributeError, OSError):
        set_limit = ctypes.CDLL(None).mallopt
        set_limit(_M_TRIM_THRESHOLD, KEPT_BYTES)
        set_limit(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
