"""What the vision benchmark has found: the answer, the bars, the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.bars import Bar
from benchmarks.frames import CAMERAS
from benchmarks.speeds import Run, Speed
from benchmarks.vision_live import Live

HEADRACE, UNTRACKED, BARE = "headrace", "untracked", "bare"
CONTENDERS = (HEADRACE, UNTRACKED, BARE)

LEAST_OF_BARE = 0.9
MOST_ADDED_MS = 20.0
MOST_STALE_MS = 500.0
LEAST_OF_UNTRACKED = 0.9


@dataclass
class Found:
    """What was measured with one detector.

    Attributes:
        throughput: of each worker, and of the bare loop, one a round.
        single: the bare loop, frame by frame.
        network: engine -> batch -> what it does alone; or engine -> why it does not run here.
    """

    throughput: dict[str, list[Speed]] = field(default_factory=lambda: {name: [] for name in CONTENDERS})
    single: Run | None = None
    live: Live | None = None
    network: dict[str, Any] = field(default_factory=dict)

    def fps(self, name: str) -> float:
        """Frames a second, median over rounds; NaN where none was measured."""
        return _median([each.fps for each in self.throughput[name]])

    def cpu_ms(self, name: str) -> float:
        """CPU time of a frame, likewise."""
        return _median([each.cpu_us / 1000 for each in self.throughput[name]])

    def ratio(self, other: str) -> float:
        """Frames a second of the worker by those of another in the same round, median over rounds."""
        pairs = zip(self.throughput[HEADRACE], self.throughput[other], strict=False)
        return _median([own.fps / beside.fps for own, beside in pairs])

    def answer(self) -> dict[str, Any]:
        """Return the machine-readable answer."""
        single, live = self.single, self.live
        answer: dict[str, Any] = {
            name: {"fps": self.fps(name), "cpu_ms": self.cpu_ms(name)} for name in self.throughput
        }
        if live is not None:
            answer[HEADRACE]["p95_ms"] = live.half.p95_ms
            answer |= {"half_load": asdict(live.half), "overload": asdict(live.over), "counts": asdict(live.counts)}
            answer |= {} if live.plain is None else {"plain_loop": asdict(live.plain)}
        if single is not None:
            answer[BARE] |= {"frame_ms": single.p50_ms, "p95_ms": single.p95_ms}
        answer["ratios"] = {name: self.ratio(name) for name in self.throughput if name != HEADRACE}
        rounded: dict[str, Any] = _rounded(answer)
        return rounded | {"network": self.network}

    def bars(self, detector: str) -> list[Bar]:
        """Return what a worker may cost, beside what it does."""
        found = [
            Bar(f"{detector}: frames/s / bare loop", self.ratio(BARE), LEAST_OF_BARE, "", True, 2),
            Bar(f"{detector}: frames/s / without tracks", self.ratio(UNTRACKED), LEAST_OF_UNTRACKED, "", True, 2),
        ]
        if self.live is None or self.single is None:
            return found
        half, over, counts = self.live.half, self.live.over, self.live.counts
        lost = abs(counts.sent - counts.out - counts.dropped - counts.dead_lettered)
        served = sum(published > 0 for published in over.by_camera)
        return [
            *found,
            Bar(
                f"{detector}: p95 at half load",
                half.p95_ms,
                self.single.p50_ms + MOST_ADDED_MS,
                " ms",
                spoiled=half.behind,
            ),
            Bar(f"{detector}: p95 age at 3 x overload", over.p95_ms, MOST_STALE_MS, " ms", digits=0),
            Bar(f"{detector}: cameras served at overload", served, CAMERAS, "", True, 0),
            Bar(f"{detector}: frames unaccounted for", lost, 0, digits=0),
        ]


@dataclass
class Outcome:
    """What was found by detector, what was left out and why, and what failed."""

    detectors: dict[str, Found] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """Return the machine-readable answer: the bundled detector's, or else the other's, and those of all."""
        all_of_them = {name: found.answer() for name, found in self.detectors.items()}
        first = next(iter(all_of_them.values()), {})
        return first | {"detectors": all_of_them, "skipped": self.skipped}

    def bars(self) -> list[Bar]:
        return [bar for name, found in self.detectors.items() for bar in found.bars(name)]


def table(outcome: Outcome) -> Table:
    """Draw what was found for a terminal of 80 columns."""
    drawn = Table(title=f"Vision: {CAMERAS} cameras", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    drawn.add_column("")
    answers = {name: _lines(found) for name, found in outcome.detectors.items()}
    for name in answers:
        drawn.add_column(name, justify="right")
    for line in dict.fromkeys(line for lines in answers.values() for line in lines):
        drawn.add_row(line, *(lines.get(line, "") for lines in answers.values()))
    return drawn


def _lines(found: Found) -> dict[str, str]:
    lines = {
        f"{name}: frames/s (CPU ms a frame)": f"{found.fps(name):,.0f} ({found.cpu_ms(name):.2f})"
        for name, rounds in found.throughput.items()
        if rounds
    }
    if found.single is not None:
        lines["one frame in the bare loop, ms: p50 / p95"] = f"{found.single.p50_ms:.1f} / {found.single.p95_ms:.1f}"
    if found.live is not None:
        live = found.live
        for load, ages in (("half load", live.half), ("plain loop then", live.plain), ("3 x overload", live.over)):
            if ages is None:
                continue
            mark = " *" if ages.behind else ""
            lines[f"{load}, ms: p50 / p95"] = f"{ages.p50_ms:.1f} / {ages.p95_ms:.1f}{mark}"
        shares = found.live.over.by_camera
        lines["frames of a camera published at overload"] = f"{min(shares)} to {max(shares)}"
    for engine, batches in found.network.items():
        if isinstance(batches, Mapping):
            for size, each in batches.items():
                shown = f"{each['fps']:,.0f} ({each['fps_per_core']:,.0f} a core)"
                lines[f"network alone on {engine}, batch {size}, frames/s"] = shown
    return lines


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def _rounded(value: Any) -> Any:
    """Numbers with two decimals; JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, float):
        return round(value, 2) if math.isfinite(value) else None
    return value
