"""How busy the instances of a model have been, of late."""

from __future__ import annotations

import math

from streams.clock import Clock

WINDOW_S = 1.0


class Utilisation:
    """The share of instances at work, as a mean over time in which what is `WINDOW_S` ago counts for a third.

    Args:
        instances: how many there are; all are idle at first.
    """

    def __init__(self, instances: int, clock: Clock) -> None:
        self._instances, self._clock = instances, clock
        self._busy = 0
        self._share, self._since = 0.0, clock.monotonic()

    def set_idle(self, idle: int) -> None:
        """From now on so many of them are idle."""
        self._share, self._since = self.share, self._clock.monotonic()
        self._busy = self._instances - idle

    @property
    def share(self) -> float:
        """From 0 to 1."""
        past = math.exp((self._since - self._clock.monotonic()) / WINDOW_S)
        return self._share * past + self._busy / self._instances * (1 - past)
