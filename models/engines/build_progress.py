"""One share between 0 and 1 out of phases that nest, begin and end as a compiler sees fit."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from models.engines.aside import Progress, Report


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns TensorRT's phases into one share, which never goes back.

    A phase inside another is a part of its parent's current step. May be called from several threads, as TensorRT does.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, inside `parent` where there is one."""
        with self._lock:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(steps, 1))
            self._tell(name)

    def step(self, name: str, step: int) -> None:
        """Step number `step`, from 0, of a phase is done."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
                self._tell(name)

    def finish(self, name: str) -> None:
        """A phase is over, whether all of its steps were told or not."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = self._phases[name].steps
                self._tell(name)
                del self._phases[name]

    def _tell(self, name: str) -> None:
        self._share = max(self._share, self._reached(name))
        self._report(Progress(self._share, name))

    def _reached(self, name: str) -> float:
        """How much of the whole is done when this phase stands where it does."""
        phase = self._phases[name]
        share = min(phase.done, phase.steps) / phase.steps
        while phase.parent is not None and phase.parent in self._phases:
            phase = self._phases[phase.parent]
            share = min(phase.done + share, phase.steps) / phase.steps
        return share
