"""The partition of a key, as every Kafka client chooses it."""

from __future__ import annotations

import random

from aiokafka.partitioner import murmur2

CACHED_KEYS = 1 << 18  # some 40 MB


class Partitioner(dict[bytes | None, int]):
    """Key -> partition, equal to the default partitioner of the Java client: murmur2 of the key.

    Hashing in Python takes 3 µs, so the partitions of the last keys are kept.
    """

    def __init__(self, partitions: int, cached_keys: int = CACHED_KEYS) -> None:
        super().__init__()
        self._partitions = partitions
        self._cached_keys = cached_keys

    def __missing__(self, key: bytes | None) -> int:
        if key is None:
            return random.randrange(self._partitions)
        if len(self) >= self._cached_keys:
            self.clear()
        partition: int = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        self[key] = partition
        return partition
