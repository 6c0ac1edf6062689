"""How busy instances have been."""

from __future__ import annotations

import math

import pytest

from streams.clock import ManualClock
from streams.utilisation import WINDOW_S, Utilisation


def test_the_share_follows_what_is_busy_within_about_a_second() -> None:
    clock = ManualClock()
    utilisation = Utilisation(2, clock)
    assert utilisation.share == 0
    utilisation.set_idle(1)
    assert utilisation.share == 0
    clock.advance(WINDOW_S)
    assert utilisation.share == pytest.approx(0.5 * (1 - 1 / math.e))
    clock.advance(100)
    assert utilisation.share == pytest.approx(0.5)
    utilisation.set_idle(0)
    clock.advance(WINDOW_S)
    assert utilisation.share == pytest.approx(1 - 0.5 / math.e)
    utilisation.set_idle(2)
    clock.advance(100)
    assert utilisation.share == pytest.approx(0)


def test_halves_of_the_time_are_half_of_the_share() -> None:
    clock = ManualClock()
    utilisation = Utilisation(1, clock)
    for _ in range(500):
        for idle in (0, 1):
            utilisation.set_idle(idle)
            clock.advance(0.01)
    assert utilisation.share == pytest.approx(0.5, abs=0.01)
