"""What `headrace demo` runs: a broker, a fraud worker, simulated transactions, and a subscriber that measures."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from streams.schemas import FraudFlag

HOME = Path(".headrace/demo")
JARS = Path(".headrace/kafka/jars")
PARTITIONS = 4
WINDOW_S = 10.0
GROUP = "headrace-demo"
RECENT_FLAGS = 50
CHUNK = 256
READY_TIMEOUT_S = 90.0
POLL_S = 0.1
LAST_PREDICTIONS_TIMEOUT_S = 10.0
WORKER_STOP_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Measurements:
    """What a subscriber sees, with the latency from the producer's hand to its own."""

    sent: int = 0
    received: int = 0
    flagged: int = 0
    first_prediction_s: float | None = None
    flags: deque[FraudFlag] = field(default_factory=lambda: deque(maxlen=RECENT_FLAGS))
    _recent: deque[tuple[float, float]] = field(default_factory=deque)  # arrival and latency
