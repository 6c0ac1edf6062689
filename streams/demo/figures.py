"""What a subscriber measures, with the latency from the producer's hand to its own."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

WINDOW_S = 10.0


@dataclass(slots=True)
class Figures:
    """Events sent, and predictions of them received.

    Args:
        first_s: when the first prediction came, since the start.
    """

    sent: int = 0
    received: int = 0
    first_s: float | None = None
    _latencies: array[float] = field(default_factory=lambda: array("d"))
    _recent: deque[tuple[float, float]] = field(default_factory=deque)  # arrival and latency

    def add(self, now: float, latencies_s: Sequence[float]) -> None:
        """Predictions that arrived now."""
        self.received += len(latencies_s)
        self._latencies.extend(latencies_s)
        self._recent.extend((now, latency) for latency in latencies_s)
        while self._recent and self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Predictions a second over the last ten seconds."""
        if not self._recent:
            return 0.0
        return len(self._recent) / max(1.0, min(WINDOW_S, now - self._recent[0][0]))

    def recent_ms(self) -> tuple[float, float]:
        """p50 and p99 of the last ten seconds."""
        return _percentiles([latency for _, latency in self._recent])

    def overall_ms(self) -> tuple[float, float]:
        """p50 and p99 of the whole run."""
        return _percentiles(self._latencies)


def _percentiles(latencies_s: Sequence[float]) -> tuple[float, float]:
    if not latencies_s:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(np.array(latencies_s), [50, 99]) * 1000
    return float(p50), float(p99)
