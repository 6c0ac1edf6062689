"""Waiting for a condition, with a deadline: never a sleep that hopes to be long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.05

T = TypeVar("T")


def until(condition: Callable[[], T | None], within_s: float, what: str) -> T:
    """The first true answer of `condition`.

    Raises:
        AssertionError: `what` did not happen within the time; it says what the last answer was.
    """
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {within_s:g} s, last answer {answer!r}")
        time.sleep(POLL_S)
    return answer
