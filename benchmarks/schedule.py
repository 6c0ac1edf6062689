"""The open-loop schedule and what is made of the latencies: plain arithmetic, no clock of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

NS_PER_S = 1_000_000_000
BEHIND_MS = 5.0  # a sender whose p99 lateness is above this has fallen behind: it, not the contender, was then measured
KEPT_RATE = 0.98  # likewise one that reached less than this share of the rate it should send


@dataclass(frozen=True)
class Schedule:
    """When each of `count` events is due: event i at `start_ns` + i / rate, whatever became of the ones before it.

    Latency is counted from that moment, not from the actual send, so a stall of the contender, the broker or the sender
    weighs on every event that was due meanwhile, not on one (no coordinated omission).
    """

    start_ns: int
    rate: int
    count: int

    def at_ns(self, index: int) -> int:
        """Return when event `index` is due."""
        return self.start_ns + index * NS_PER_S // self.rate

    def due(self, now_ns: int) -> int:
        """Return how many events are due at `now_ns`."""
        if now_ns < self.start_ns:
            return 0
        return min(self.count, (now_ns - self.start_ns) * self.rate // NS_PER_S + 1)

    @property
    def end_ns(self) -> int:
        return self.at_ns(self.count)


@dataclass(frozen=True)
class Lateness:
    """How well the sender kept to its schedule, over events: actual less scheduled time of the send."""

    sent: int
    p99_ms: float
    max_ms: float
    achieved_per_s: float

    @classmethod
    def of(cls, late_ns: ArrayLike, sizes: ArrayLike, seconds: float) -> Lateness:
        """Reduce bursts: how late the oldest event of each burst was, and how many events it held."""
        late_ms = np.repeat(np.asarray(late_ns, np.float64) / 1e6, np.asarray(sizes, np.int64))
        return cls(
            len(late_ms), float(np.percentile(late_ms, 99)), float(late_ms.max()), len(late_ms) / max(seconds, 1e-9)
        )

    def behind(self, rate: int) -> bool:
        """Tell whether the sender fell behind, which spoils what was measured with it."""
        return self.p99_ms > BEHIND_MS or self.achieved_per_s < KEPT_RATE * rate


@dataclass(frozen=True)
class Latencies:
    """One contender at one rate in one round: milliseconds from the scheduled send to the subscriber.

    `lost` counts events whose output had not come when the reader gave up; they are in no percentile.
    `sent_late_p99_ms` and `behind` are the sender's: how late it was itself, and whether that spoils the row.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    achieved_per_s: float
    lost: int
    sent_late_p99_ms: float = 0.0
    behind: bool = False

    @classmethod
    def of(cls, latency_ns: ArrayLike, seconds: float, lost: int) -> Latencies:
        """Reduce the latencies of the measured span, which took `seconds` up to its last output.

        Raises:
            ValueError: there are none.
        """
        values_ms = np.asarray(latency_ns, np.float64) / 1e6
        if values_ms.size == 0:
            raise ValueError("measuring latency: expected outputs after the warm-up, got none")
        p50_ms, p99_ms = np.percentile(values_ms, [50, 99])
        return cls(float(p50_ms), float(p99_ms), float(values_ms.max()), values_ms.size / max(seconds, 1e-9), lost)

    def rounded(self) -> dict[str, float | int | bool]:
        """Return the fields for JSON, milliseconds with two decimals."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


def combine(rounds: list[Latencies]) -> Latencies:
    """Reduce rounds: medians of the percentiles and of the achieved rate, the worst of the rest."""
    return Latencies(
        p50_ms=float(np.median([latencies.p50_ms for latencies in rounds])),
        p99_ms=float(np.median([latencies.p99_ms for latencies in rounds])),
        max_ms=max(latencies.max_ms for latencies in rounds),
        achieved_per_s=float(np.median([latencies.achieved_per_s for latencies in rounds])),
        lost=sum(latencies.lost for latencies in rounds),
        sent_late_p99_ms=max(latencies.sent_late_p99_ms for latencies in rounds),
        behind=any(latencies.behind for latencies in rounds),
    )
