"""How fast frames are worked off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contenders.contract import Measurement


@dataclass(frozen=True)
class Speed:
    """Frames a second, CPU microseconds a frame."""

    fps: float
    cpu_us: float


@dataclass(frozen=True)
class Run(Speed):
    """One run of the loop; milliseconds are a batch's."""

    p50_ms: float
    p95_ms: float

    @classmethod
    def of(cls, measured: Measurement, taken_s: Sequence[float]) -> Run:
        """From the whole and from its batches."""
        p50_ms, p95_ms = np.percentile(np.array(taken_s) * 1000, [50, 95])
        return cls(measured.events_per_s, measured.cpu_us, float(p50_ms), float(p95_ms))
