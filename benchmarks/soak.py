"""Soak: one worker under a steady load for a long time; what it holds on to."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.bars import Bar
from benchmarks.processes import ChildError
from benchmarks.topics import PARTITIONS, Topics
from benchmarks.workers import FIRST_DAY, Flow, Load, Worker, until
from streams.topics import changelog_topic, table_topic

SAMPLE_S = 10.0
LOOK_S = 0.5
WARM_UP_SHARE = 0.25
LEAST_WARM_UP_S = 180.0
LEAST_SPAN_S = 180.0  # a slope over less is noise
LOAD_SHARE = 0.7

CARDS = 20_000
FEWEST_CARDS = 100
PAYMENTS_A_DAY = 2  # of a card, on average
STATE_DAYS = 67  # that the table of terminals goes back: 37 of its windows, 30 by which partitions may drift apart
DELIVERED_AGAIN = 70_000  # offsets of a partition for which it stays even longer
CALIBRATION_EVENTS = 2_800_000  # 70 simulated days of those cards: all state has its size after 67
CALIBRATION_LIMIT_S = 300.0
SOAK_DAY = "2001-01-01"  # after the calibration's days: event time goes forward

MOST_RSS_MB = 2.0  # slope, in 10 minutes
MOST_MORE_FILES = 2
MOST_MORE_TASKS = 5
LEAST_KEPT = 0.98

# What is older than half a minute at the highest rates goes, so that the disk holds a few GB however long it runs.
SHORT_LIVED = {
    "cleanup.policy": "delete",
    "retention.bytes": str(256 << 20),
    "retention.ms": "600000",
    "segment.bytes": str(32 << 20),
    "file.delete.delay.ms": "1000",
}
BROKER = {"log.retention.check.interval.ms": "5000", "log.initial.task.delay.ms": "5000"}


@dataclass(frozen=True)
class Sample:
    """The worker at one moment; MB are millions of bytes."""

    at_s: float
    rss_mb: float
    state_mb: float
    files: int
    threads: int
    tasks: int
    lag: int
    done: int


@dataclass
class Outcome:
    """What a soak saw.

    Attributes:
        rate: events a second that were sent.
        calibrated_eps: what the worker did beside a sender as fast as it can be; None where the rate was given.
    """

    guarantee: str
    minutes: float
    rate: float
    calibrated_eps: float | None = None
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def settled(self) -> list[Sample]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample.at_s >= warm_up_s(60 * self.minutes)]

    def slope(self, column: str) -> float:
        """Growth of a column in 10 minutes, by least squares over the settled samples; NaN where they are too few."""
        settled = self.settled
        if len(settled) < 2 or settled[-1].at_s - settled[0].at_s < LEAST_SPAN_S:
            return math.nan
        return slope_in_10_min([each.at_s for each in settled], [getattr(each, column) for each in settled])

    @property
    def more_files(self) -> float:
        settled = self.settled
        return settled[-1].files - settled[0].files if settled else math.nan

    @property
    def more_tasks(self) -> float:
        """Between the medians of the first and the last third: their number goes up and down with the load."""
        tasks = [each.tasks for each in self.settled]
        third = len(tasks) // 3
        return statistics.median(tasks[-third:]) - statistics.median(tasks[:third]) if third else math.nan

    @property
    def kept(self) -> float:
        """Events done per event sent, from the first sample to the last."""
        if len(self.samples) < 2:
            return math.nan
        first, last = self.samples[0], self.samples[-1]
        return (last.done - first.done) / (last.at_s - first.at_s) / self.rate

    def bars(self) -> list[Bar]:
        return [
            Bar("RSS growth in 10 minutes", self.slope("rss_mb"), MOST_RSS_MB, " MB"),
            Bar("open files more than after the warm-up", self.more_files, MOST_MORE_FILES, digits=0),
            Bar("event loop tasks more than after the warm-up", self.more_tasks, MOST_MORE_TASKS, digits=0),
            Bar("events done / events sent", self.kept, LEAST_KEPT, at_least=True, digits=2),
        ]

    def answer(self) -> dict[str, object]:
        """Return the machine-readable answer."""
        ends: dict[str, float] = {}
        for name in ("rss_mb", "state_mb", "files", "threads", "tasks") if self.samples else ():
            ends[f"{name}_first"] = getattr(self.samples[0], name)
            ends[f"{name}_last"] = getattr(self.samples[-1], name)
        bars = dict(zip(("rss", "files", "tasks", "kept_up"), self.bars(), strict=True))
        return {
            "guarantee": self.guarantee,
            "minutes": self.minutes,
            "rate": round(self.rate),
            "calibrated_eps": None if self.calibrated_eps is None else round(self.calibrated_eps),
            "rss_slope_mb_per_10min": _number(self.slope("rss_mb")),
            "state_slope_mb_per_10min": _number(self.slope("state_mb")),
            **ends,
            "lag_median": statistics.median([each.lag for each in self.samples]) if self.samples else None,
            "lag_max": max((each.lag for each in self.samples), default=None),
            "kept_up": _number(self.kept),
            "verdict": {name: bar.verdict for name, bar in bars.items()},
            "samples": [asdict(each) for each in self.samples],
        }


def slope_in_10_min(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Least squares."""
    return float(np.polyfit(np.asarray(at_s, float), np.asarray(values, float), 1)[0]) * 600


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def table(outcome: Outcome) -> Table:
    """Draw first, settled and last sample for a terminal."""
    drawn = Table(
        title=f"One worker, {outcome.guarantee}, {outcome.rate:,.0f} events/s for {outcome.minutes:g} minutes",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    drawn.add_column("", no_wrap=True)
    for heading in ("minute", "RSS MB", "state MB", "files", "threads", "tasks", "lag", "done"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    named = [("first", outcome.samples[:1]), ("warm", outcome.settled[:1]), ("last", outcome.samples[-1:])]
    for name, samples in named:
        for each in samples:
            drawn.add_row(
                name,
                f"{each.at_s / 60:.1f}",
                f"{each.rss_mb:,.1f}",
                f"{each.state_mb:,.1f}",
                str(each.files),
                str(each.threads),
                str(each.tasks),
                f"{each.lag:,}",
                f"{each.done:,}",
            )
    rss, state = outcome.slope("rss_mb"), outcome.slope("state_mb")
    if not math.isnan(rss):
        drawn.add_row("growth", "in 10", f"{rss:+,.2f}", f"{state:+,.2f}")
    return drawn


def run(minutes: float, rate: float | None, guarantee: str, bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Calibrate unless a rate is given, then load a worker and sample it.

    Raises:
        KafkaException: the broker is not there. A worker that ends, or never starts, is in the outcome's failures.
    """
    outcome = Outcome(guarantee, minutes, rate or 0.0)
    with Topics(bootstrap) as topics:
        source, sink = (topics.create(name, PARTITIONS, SHORT_LIVED) for name in ("in", "out"))
        # Compaction keeps a changelog whole for an hour, which is a disk full; nobody restores from this one.
        topics.create(changelog_topic("out"), PARTITIONS, SHORT_LIVED)
        topics.create(table_topic("out"), PARTITIONS, SHORT_LIVED)
        flow = Flow(bootstrap, sink, source, sink, guarantee)
        worker = Worker(flow)
        try:
            until(lambda: worker.owns(PARTITIONS), 60, "the worker")
            if rate is None:
                outcome.calibrated_eps = _calibrate(flow, worker, said)
                outcome.rate = LOAD_SHARE * outcome.calibrated_eps
            cards = cards_for(outcome.rate, 60 * minutes)
            said(f"{outcome.rate:,.0f} events/s of {cards:,} cards for {minutes:g} minutes")
            load = Load(flow, customers=cards, rate=outcome.rate, first_day=SOAK_DAY)
            try:
                _watch(outcome, worker, load, said)
            finally:
                load.stop()
        except (ChildError, TimeoutError) as error:
            outcome.failures.append(str(error))
        finally:
            worker.stop()
    return outcome


def cards_for(rate: float, seconds: float) -> int:
    """Return with how many cards a load is steady: 20 000, or fewer or more where the rate asks for it.

    Few enough for the state to have its size when the warm-up ends: it keeps 67 days of terminals, and what may
    be delivered again of cards. Enough for the simulated days to last: they must not reach the present.
    """
    days = (date.today() - date.fromisoformat(SOAK_DAY)).days  # noqa: DTZ011 - within a day is enough
    enough = 1.1 * rate * seconds / (PAYMENTS_A_DAY * days)
    steady = (rate * warm_up_s(seconds) - PARTITIONS * DELIVERED_AGAIN) / (PAYMENTS_A_DAY * STATE_DAYS)
    return math.ceil(max(min(CARDS, steady), enough, FEWEST_CARDS))


def warm_up_s(seconds: float) -> float:
    """Return how long a soak warms up: a quarter of the time, three minutes at least."""
    return max(LEAST_WARM_UP_S, WARM_UP_SHARE * seconds)


def _calibrate(flow: Flow, worker: Worker, said: Callable[[str], None]) -> float:
    """Return the events a second that a worker does beside a sender that is as fast as it can be."""
    said(f"calibrating with {CALIBRATION_EVENTS:,} events")

    def done() -> float:
        if not worker.running:
            raise worker.failure("ended while it was calibrated")
        return worker.metrics().get("headrace_records_in_total", 0.0)

    load = Load(flow, customers=CARDS, count=CALIBRATION_EVENTS, first_day=FIRST_DAY)
    try:
        until(lambda: done() > 0, CALIBRATION_LIMIT_S, "the first event")
        began_s, before = time.monotonic(), done()
        until(lambda: done() >= CALIBRATION_EVENTS, CALIBRATION_LIMIT_S, f"{CALIBRATION_EVENTS:,} events")
    finally:
        load.stop()
    found = (CALIBRATION_EVENTS - before) / (time.monotonic() - began_s)
    said(f"{found:,.0f} events/s")
    return found


def _watch(outcome: Outcome, worker: Worker, load: Load, said: Callable[[str], None]) -> None:
    """Take a sample every ten seconds, until the time is over.

    Raises:
        ChildError: worker or load has ended.
    """
    process, began_s = psutil.Process(worker.pid), time.monotonic()
    with _progress(60 * outcome.minutes, said) as show:
        for number in range(1, int(60 * outcome.minutes / SAMPLE_S) + 1):
            while (left_s := began_s + number * SAMPLE_S - time.monotonic()) > 0:
                for child in (worker, load):
                    if not child.running:
                        raise child.failure("ended by itself")
                time.sleep(min(LOOK_S, left_s))
            outcome.samples.append(_sample(process, worker, time.monotonic() - began_s))
            show(outcome.samples[-1])


def _sample(process: psutil.Process, worker: Worker, at_s: float) -> Sample:
    found = worker.metrics()
    return Sample(
        at_s=round(at_s, 2),
        rss_mb=process.memory_info().rss / 1e6,
        state_mb=(found.get("headrace_state_bytes", 0.0) + found.get("headrace_table_bytes", 0.0)) / 1e6,
        files=process.num_fds(),
        threads=process.num_threads(),
        tasks=int(found.get("headrace_tasks", 0)),
        lag=int(found.get("headrace_lag_records", 0)),
        done=int(found.get("headrace_records_in_total", 0)),
    )


@contextlib.contextmanager
def _progress(total_s: float, said: Callable[[str], None]) -> Iterator[Callable[[Sample], None]]:
    """A bar on a terminal; elsewhere a line a minute."""
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=total_s, note="")

        def show(sample: Sample) -> None:
            note = (
                f"RSS {sample.rss_mb:,.1f} MB, state {sample.state_mb:,.1f} MB, {sample.files} files, "
                f"{sample.threads} threads, lag {sample.lag:,}"
            )
            progress.update(task, completed=sample.at_s, note=note)
            if not console.is_terminal and sample.at_s % 60 < SAMPLE_S:
                said(f"minute {sample.at_s / 60:.0f}: {note}")

        yield show
