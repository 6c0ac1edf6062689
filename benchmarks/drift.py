"""Drift: how often the monitor cries wolf where nothing has changed, how soon it says what has, and what it costs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group
from rich.table import Table

from models import repository
from models.drift import DriftMonitor
from models.fraud.blocks import DAY_MS
from models.fraud.inputs import INPUTS
from models.fraud.recorded import recorded_inputs
from models.fraud.sample import FILLING_DAYS
from models.reference import HOUR_MS, Reference
from models.repository import Repository
from streams.cli.simulated import simulate

SPANS_H = (24, 168)
SEED = 100  # of the first world; the training's is 0
CUSTOMERS = 5_000
BATCH = 256  # small, so that reports come in time
MICRO_BATCH = 2_048
QUIET_DAYS = 8  # before a change
NAIVE_P = 0.05
MOVED = tuple(INPUTS.index(name) for name in ("amount", "mean_7d", "amount_ratio", "since_last_s"))
Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows of a worker whose windows are full: features [n, 26], scores [n], event times [n], rising, card keys."""

    features: Rows
    scores: Rows
    event_time_ms: NDArray[np.int64]
    keys: list[bytes]

    def take(self, rows: NDArray[np.intp]) -> Stream:
        keys = [self.keys[row] for row in rows.tolist()]
        return Stream(self.features[rows], self.scores[rows], self.event_time_ms[rows], keys)


@dataclass(frozen=True)
class Quiet:
    """What the reports on an unchanged stream said."""

    stream: str
    span_h: int
    reports: int
    alarms: int
    naive_alarms: int


@dataclass(frozen=True)
class Change:
    """What the reports said after a change of some features, each of which is `of` one.

    Args:
        hours: from the change until a feature was called drifting, those of the features that were.
    """

    change: str
    span_h: int
    found: int
    of: int
    hours: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    quiet: Sequence[Quiet]
    changes: Sequence[Change]
    ns_per_row: float
    ms_per_report: float

    def answer(self) -> dict[str, Any]:
        """The machine-readable answer."""
        reports, alarms = (sum(getattr(each, name) for each in self.quiet) for name in ("reports", "alarms"))
        return {
            "reports": reports,
            "false_alarms": alarms,
            "naive_false_alarms": sum(each.naive_alarms for each in self.quiet),
            "changes": [
                {
                    "change": each.change,
                    "span_h": each.span_h,
                    "found": each.found,
                    "of": each.of,
                    "median_hours": statistics.median(each.hours) if each.hours else None,
                }
                for each in self.changes
            ],
            "ns_per_row": round(self.ns_per_row, 1),
            "ms_per_report": round(self.ms_per_report, 1),
        }


def run(worlds: int, days: int, said: Callable[[str], None]) -> Outcome:
    """Watch simulated worlds that the model has not seen, unchanged and changed.

    Args:
        days: of each world, after those in which windows fill.
    """
    model = Repository().load("fraud")
    reference = model.sample()
    if reference is None:
        raise click.ClickException(f"{model.reference} has no training sample: run `headrace models sample fraud`")
    quiet: list[Quiet] = []
    for seed in range(SEED, SEED + worlds):
        said(f"simulating world {seed}: {FILLING_DAYS + days} days")
        stream = _stream(model, days, seed)
        quiet += _quiet(reference, stream, seed, said)
    changes = _changes(reference, stream, said)
    return Outcome(quiet, changes, *_cost(reference, stream))


def _stream(model: repository.Model, days: int, seed: int) -> Stream:
    transactions = simulate(FILLING_DAYS + days, CUSTOMERS, seed).transactions
    first = int(np.searchsorted(transactions.day, transactions.day[0] + FILLING_DAYS))
    features = recorded_inputs(transactions).astype(np.float32)[first:]
    engine = repository.open_engine(model)
    scores = engine.infer({"features": features})["score"]
    engine.close()
    return Stream(features, scores, transactions.event_time_ms[first:], transactions.cards.keys[first:])


def _reports(
    reference: Reference, stream: Stream, span_h: int, every_h: int
) -> list[tuple[float, tuple[str, ...], bool]]:
    """Of each report with a verdict: hours since the start, what drifts, and whether any p-value is below NAIVE_P."""
    monitor = DriftMonitor(reference, span_h=span_h)
    started = due = int(stream.event_time_ms[0])
    found = []
    for start in range(0, len(stream.scores), BATCH):
        part = slice(start, start + BATCH)
        monitor.update(stream.features[part], stream.scores[part], stream.event_time_ms[part], stream.keys[part])
        now = int(stream.event_time_ms[part][-1])
        if now >= due:
            due = now + every_h * HOUR_MS
            report = monitor.report()
            if not report.waiting_for:
                naive = any(each.p_value < NAIVE_P for each in report.features)
                found.append(((now - started) / HOUR_MS, report.drifting, naive))
    return found


def _quiet(reference: Reference, stream: Stream, seed: int, said: Callable[[str], None]) -> list[Quiet]:
    order = np.random.default_rng(seed).permutation(len(stream.scores))
    tenth = np.flatnonzero([key.endswith(b"7") for key in stream.keys])
    streams = {
        "as it comes": stream,
        "reshuffled": replace(stream.take(order), event_time_ms=stream.event_time_ms),
        "a tenth of the cards": stream.take(tenth),
    }
    found = []
    for name, watched in streams.items():
        for span_h in SPANS_H:
            reports = _reports(reference, watched, span_h, every_h=6)
            alarms = sum(bool(drifting) for _, drifting, _ in reports)
            found.append(Quiet(name, span_h, len(reports), alarms, sum(naive for *_, naive in reports)))
            said(f"world {seed}, {name}, {span_h} h: {alarms} alarms in {len(reports)} reports")
    return found


def _changes(reference: Reference, stream: Stream, said: Callable[[str], None]) -> list[Change]:
    """From a moment on some features are different, and so is nothing else: the score stays what it was."""
    started = stream.event_time_ms[0]
    stream = stream.take(np.flatnonzero(stream.event_time_ms < started + 2 * QUIET_DAYS * DAY_MS))
    at = int(np.searchsorted(stream.event_time_ms, started + QUIET_DAYS * DAY_MS))
    columns = stream.features[:, MOVED]
    mean, deviation, middle = columns.mean(axis=0), columns.std(axis=0), np.median(columns, axis=0)
    changed: dict[str, tuple[tuple[int, ...], Callable[[Rows], Rows]]] = {
        **{f"mean + {by} sd": (MOVED, lambda rows, by=by: rows + by * deviation) for by in (0.1, 0.25, 0.5)},
        "spread x 1.5": (MOVED, lambda rows: mean + 1.5 * (rows - mean)),
        "one in ten missing": (MOVED, lambda rows: np.where(np.arange(len(rows))[:, None] % 10, rows, np.nan)),
        "stuck at the median": (MOVED, lambda rows: np.broadcast_to(middle, rows.shape)),
        "nights vanish (9 %)": ((INPUTS.index("night"),), np.zeros_like),
    }
    found = []
    for name, (moved, change) in changed.items():
        features = stream.features.copy()
        features[at:, moved] = change(features[at:, moved])
        for span_h in SPANS_H:
            reports = _reports(reference, replace(stream, features=features), span_h, every_h=1)
            names = [INPUTS[column] for column in moved]
            after = QUIET_DAYS * 24
            first = [next((hour - after for hour, what, _ in reports if each in what), None) for each in names]
            hours = tuple(round(hour, 1) for hour in first if hour is not None)
            found.append(Change(name, span_h, len(hours), len(names), hours))
            said(f"{name}, {span_h} h: {len(hours)} of {len(names)}, after {hours} h")
    return found


def _cost(reference: Reference, stream: Stream, rate: int = 100_000) -> tuple[float, float]:
    """Nanoseconds a row at 100 000 rows a second, when the sampling has settled, and milliseconds a report."""
    monitor = DriftMonitor(reference)
    count = len(stream.scores) // MICRO_BATCH * MICRO_BATCH
    batches = [slice(start, start + MICRO_BATCH) for start in range(0, count, MICRO_BATCH)]
    times = np.arange(count) * 1000 // rate
    keys = [stream.keys[part] for part in batches]
    for turn in range(5):
        started = time.perf_counter()
        for part, key in zip(batches, keys, strict=True):
            monitor.update(stream.features[part], stream.scores[part], times[part] + turn * times[-1], key)
        taken = time.perf_counter() - started
    settled = DriftMonitor(reference)
    settled.update(stream.features, stream.scores, stream.event_time_ms, stream.keys)
    started = time.perf_counter()
    settled.report()
    return taken / count * 1e9, (time.perf_counter() - started) * 1e3


def table(found: Outcome) -> Group:
    """Draw the outcome for a terminal of 80 columns."""
    quiet = Table(title="Nothing has changed", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stream", "window", "reports", "false alarms", f"any p < {NAIVE_P}"):
        quiet.add_column(heading, justify="left" if heading == "stream" else "right")
    for name in dict.fromkeys(each.stream for each in found.quiet):
        for span_h in SPANS_H:
            same = [each for each in found.quiet if (each.stream, each.span_h) == (name, span_h)]
            reports, alarms = sum(each.reports for each in same), sum(each.alarms for each in same)
            naive = sum(each.naive_alarms for each in same) / max(reports, 1)
            quiet.add_row(name, f"{span_h} h", f"{reports:,}", str(alarms), f"{naive:.0%}")
    changes = Table(title="Something has", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("change", "window", "features found", "hours until, median", "at most"):
        changes.add_column(heading, justify="left" if heading == "change" else "right")
    for each in found.changes:
        hours = (f"{statistics.median(each.hours):.0f}", f"{max(each.hours):.0f}") if each.hours else ("", "")
        changes.add_row(each.change, f"{each.span_h} h", f"{each.found} of {each.of}", *hours)
    return Group(quiet, changes, f"{found.ns_per_row:.0f} ns a row, {found.ms_per_report:.0f} ms a report")


@click.command("drift")
@click.option("--quick", is_flag=True, help="One world of 20 days, in under a minute: a look, not a measurement.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
def drift_command(quick: bool, as_json: bool) -> None:
    """Does the drift monitor cry wolf, and how soon does it see what has changed?

    Worlds of the transaction simulator that the bundled fraud model has not seen, 5 000 cards, through its own features
    and scores; a report every 6 hours of event time, and every hour after a change. Without Kafka; three minutes or so.

    \b
    as it comes            with its days and weeks
    reshuffled             the same rows, at the times of others
    a tenth of the cards   as for one worker of ten
    any p < 0.05           reports in which a plain Kolmogorov-Smirnov test would find something

    --json: reports, false_alarms, naive_false_alarms, changes (change, span_h, found, of, median_hours), ns_per_row,
    ms_per_report.
    """
    found = run(1 if quick else 4, 20 if quick else 56, lambda text: click.echo(text, err=True))
    Console(stderr=as_json).print(table(found))
    if as_json:
        sys.stdout.write(json.dumps(found.answer()) + "\n")
