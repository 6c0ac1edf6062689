"""A pipeline without a network: counts per key. What it must answer is known without any model."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelError
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows
from streams.records import RecordBatch

ENTRY = struct.Struct("<qq")  # count, last input offset applied


class CountStore:
    """Key -> [count, last offset]; one changelog record a key."""

    def __init__(self) -> None:
        self.counts: dict[bytes, list[int]] = {}
        self._touched: dict[bytes, None] = {}

    def count(self, key: bytes, offset: int) -> int:
        entry = self.counts.setdefault(key, [0, -1])
        if offset > entry[1]:
            entry[0] += 1
            entry[1] = offset
        self._touched[key] = None
        return entry[0]

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        for key, value in zip(keys, values, strict=True):
            if value is None:
                self.counts.pop(key, None)
                continue
            if len(value) != ENTRY.size:
                raise ValueError(f"expected {ENTRY.size} bytes at key {key!r}, got {len(value)}")
            count, offset = ENTRY.unpack(value)
            if offset > self.counts.get(key, [0, -1])[1]:
                self.counts[key] = [count, offset]

    def changes(self) -> tuple[list[bytes], list[bytes | None]]:
        keys = list(self._touched)
        self._touched.clear()
        return keys, [ENTRY.pack(*self.counts[key]) for key in keys]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def nbytes(self) -> int:
        return 64 * len(self.counts)


@dataclass
class Events:
    keys: list[bytes]
    offsets: list[int]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Rows) -> Self:
        picked = rows.tolist()
        return type(self)(*([column[row] for row in picked] for column in (self.keys, self.offsets, self.values)))


class CountingPipeline:
    """Outputs `{"offset": …, "count": …}`. `poison` fails to decode, `bad:STAGE` fails in that stage."""

    name = "counting"
    model = "counting/1"
    engine = "python"
    engine_reason = ""
    table = None

    def __init__(self, input_topic: str, output_topic: str) -> None:
        self.input_topic, self.output_topic = input_topic, output_topic
        self.model_broken = False

    @property
    def served(self) -> Self:
        return self

    def warm_up(self) -> None:
        pass

    def new_store(self) -> CountStore:
        return CountStore()

    def decode(self, batch: RecordBatch) -> Decoded[Events]:
        good = [row for row, value in enumerate(batch.values) if value is not None and value != b"poison"]
        poison = {
            row: PoisonEvent("decode", f"expected an event, got {batch.values[row]!r}")
            for row in set(range(len(batch))) - set(good)
        }
        columns = Events(
            [batch.keys[row] or b"" for row in good],
            [batch.offsets[row] for row in good],
            [batch.values[row] or b"" for row in good],
        )
        return Decoded(columns, np.array(good, np.intp), poison)

    def features(self, columns: Events, store: CountStore) -> NDArray[np.float32]:
        self._fail("features", columns.values)
        counts = [store.count(key, offset) for key, offset in zip(columns.keys, columns.offsets, strict=True)]
        bad = [value == b"bad:infer" for value in columns.values]
        nan = [value == b"nan" for value in columns.values]
        return np.array([counts, bad, nan], np.float32).T.reshape(-1, 3)

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.model_broken or features[:, 1].any():
            raise RuntimeError("bad:infer")
        return np.where(features[:, 2] > 0, np.nan, features[:, 0]).astype(np.float32)

    def encode(self, columns: Events, features: NDArray[np.float32], predictions: NDArray[np.float32]) -> list[bytes]:
        self._fail("encode", columns.values)
        return [
            json.dumps({"offset": offset, "count": int(count)}).encode()
            for offset, count in zip(columns.offsets, predictions, strict=True)
        ]

    def _fail(self, stage: str, values: list[bytes]) -> None:
        if f"bad:{stage}".encode() in values:
            raise RuntimeError(f"bad:{stage}")

    def check_model(self) -> None:
        if self.model_broken:
            raise ModelError("golden batch differs")
