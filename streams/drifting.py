"""Watches whether what comes in still looks like what the model was trained on: metrics once a minute, and a line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from models.drift import Report, metrics
from streams.telemetry import Telemetry

logger = logging.getLogger(__name__)

INTERVAL_S = 60.0


class Watched(Protocol):
    """A served version that knows its training sample."""

    def drift(self) -> Callable[[], Report] | None:
        """Copy what it has seen lately, in the compute thread; what is returned may be called in any other.

        None where it has no training sample.
        """


class Settling(Protocol):
    """A pipeline whose state says when its features mean what they did in training."""

    served: Watched

    def unsettled(self) -> str:
        """Why not yet, from any thread; empty where they do."""


class DriftWatch:
    """Belongs to one event loop.

    Args:
        compute: the executor on whose one thread micro-batches are finished.
    """

    def __init__(
        self, pipeline: Settling, compute: Executor, telemetry: Telemetry, interval_s: float = INTERVAL_S
    ) -> None:
        self._pipeline, self._compute, self._telemetry = pipeline, compute, telemetry
        self._interval_s = interval_s
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        self._drifting: tuple[str, ...] = ()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Compare, and show what came of it."""
        loop = asyncio.get_running_loop()
        report = Report(0, 0, (), self._pipeline.unsettled())
        if not report.waiting_for:
            compare = await loop.run_in_executor(self._compute, self._pipeline.served.drift)
            if compare is None:
                return
            report = await loop.run_in_executor(None, compare)
        self._show(report)

    def _show(self, report: Report) -> None:
        for name, values in metrics(report).items():
            for gone in self._shown.get(name, set()) - values.keys():
                self._telemetry.forget(name, *gone)
            self._shown[name] = set(values)
            for labels, value in values.items():
                self._telemetry.set(name, value, *labels)
        if report.drifting != self._drifting:
            self._drifting = report.drifting
            logger.warning(*self._line(report))

    def _line(self, report: Report) -> tuple[Any, ...]:
        if not report.drifting:
            return ("drift: all features look like the training sample again (%d rows)", report.rows)
        found = [f"{each.name} (PSI {each.psi:.2f}, KS {each.ks:.2f})" for each in report.features]
        drifting = [line for line, each in zip(found, report.features, strict=True) if each.verdict == "drifting"]
        text = "drift: %s do not look like the training sample any more (%d rows of %d hours)"
        return text, ", ".join(drifting), report.rows, report.span_h
