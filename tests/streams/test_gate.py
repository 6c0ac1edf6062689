"""The gate: many at once, or one alone who waits for them and is not overtaken."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pytest

from streams.gate import Gate

LONG_S, BRIEF_S = 10.0, 0.05


def test_many_pass_at_once() -> None:
    gate, together = Gate(), threading.Barrier(3)

    def go() -> int:
        with gate.passing():
            return together.wait(LONG_S)

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(lambda _: go(), range(3))) == [0, 1, 2]


def test_who_wants_to_be_alone_waits_for_those_inside_and_goes_before_those_who_come() -> None:
    gate, inside, leave, order = Gate(), threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with gate.passing():
            inside.set()
            leave.wait(LONG_S)
            order.append("first")

    def alone() -> None:
        with gate.alone():
            order.append("alone")

    def later() -> None:
        with gate.passing():
            order.append("later")

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(first)]
        assert inside.wait(LONG_S)
        running.append(threads.submit(alone))
        assert not wait_for(running, BRIEF_S).done
        running.append(threads.submit(later))
        assert not wait_for(running, BRIEF_S).done
        leave.set()
        for each in running:
            each.result(LONG_S)
    assert order == ["first", "alone", "later"]


def test_what_fails_inside_leaves_the_gate_open() -> None:
    gate = Gate()
    for enter in (gate.passing, gate.alone):
        with pytest.raises(ZeroDivisionError), enter():
            raise ZeroDivisionError
    with gate.alone():
        pass
