"""Brokers that do not answer: said once when one goes, now and then while it is away, and once when it is back.

A process has several clients, each of which asks again many times a second; what they find out is gathered here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from streams.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

REPEAT_S = 10.0
FORGOTTEN_S = 60.0  # a broker that nobody has asked for so long may have left the cluster
NO_ANSWER = (NodeNotReadyError, KafkaConnectionError, RequestTimedOutError)


@dataclass(slots=True)
class _Outage:
    since_s: float
    asked_s: float
    said_s: float


class Outages:
    """The brokers of which this process has no answer. Belongs to one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._away: dict[str, _Outage] = {}
        self._last_s = float("-inf")

    def failed(self, broker: str) -> None:
        """A client could not connect to `broker` (HOST:PORT), or has waited for its answer in vain."""
        now = self._last_s = self._clock.monotonic()
        outage = self._away.get(broker)
        if outage is None:
            self._away[broker] = _Outage(now, now, now)
            logger.warning(
                "Kafka at %s does not answer; nothing is read from it or written to it until it does, and it is asked "
                "again several times a second",
                broker,
            )
            return
        outage.asked_s = now
        if now - outage.said_s >= REPEAT_S:
            outage.said_s = now
            logger.warning("Kafka at %s has not answered for %.0f s; it is asked again", broker, now - outage.since_s)

    def answered(self, broker: str) -> None:
        """A request to `broker` has had its answer."""
        outage = self._away.pop(broker, None)
        if outage is not None:
            self._last_s = now = self._clock.monotonic()
            logger.warning("Kafka at %s answers again, after %.1f s", broker, now - outage.since_s)

    def __bool__(self) -> bool:
        return bool(self._away)

    def during(self, last_s: float) -> bool:
        """Whether a broker was away at any time in the last seconds."""
        return self._clock.monotonic() - self._last_s <= last_s

    def told(self) -> str:
        """Who does not answer and since when, for people; empty where all do."""
        now = self._clock.monotonic()
        return ", ".join(
            f"Kafka at {broker} has not answered for {now - outage.since_s:.0f} s"
            for broker, outage in self._away.items()
            if now - outage.asked_s < FORGOTTEN_S
        )


OUTAGES = Outages(SystemClock())
"""One for all clients of the process, as its log is one: they lose the same broker at the same time."""
