"""`headrace demo`: everything at once, and what comes out of it."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.cli.console import run, stop_on_signal

if TYPE_CHECKING:
    from streams.demo import Demo
    from streams.schemas import FraudFlag

REFRESH_S = 0.25
PLAIN_INTERVAL_S = 2.0
SHOWN_FLAGS = 12
LEAST_SHOWN = 0.05  # of a contribution


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after so long, with a summary.")
@click.option("--rate", type=click.FloatRange(min=1), default=2000, show_default=True, help="Transactions a second.")
def demo(seconds: float | None, rate: float) -> None:
    """Fraud detection on a real Kafka, in your terminal, with nothing to install.

    Starts the embedded broker, creates the topics, starts a fraud worker, pushes simulated card transactions and shows
    what a subscriber sees: predictions a second, latency from producer to subscriber, lag, and each flag with its
    reasons. Ctrl-C ends all of it. Every demo starts with empty topics, below .headrace/demo.

    \b
    Example:
      headrace demo
      headrace demo --seconds 30 --rate 10000
    """
    raise SystemExit(run(_demo(seconds, rate)))


async def _demo(seconds: float | None, rate: float) -> int:
    from streams.demo import Demo

    console = Console(highlight=False, soft_wrap=True)
    screen = _Screen(console)
    running = Demo(rate, screen.tell)
    with stop_on_signal() as stop, screen:
        work = asyncio.create_task(running.run(stop))
        ends_at: float | None = None
        while not work.done():
            await asyncio.wait({work}, timeout=REFRESH_S)
            if running.measurements.first_prediction_s is not None:
                ends_at = ends_at or (time.perf_counter() + seconds if seconds else float("inf"))
                if time.perf_counter() >= ends_at:
                    stop.set()
            screen.show(running)
        await work
    return _summary(console, running)


class _Screen:
    """A live picture on a terminal, a line every other second elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=1 / REFRESH_S, transient=True)
        self._step = "starting"
        self._next_line = 0.0

    def __enter__(self) -> _Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def tell(self, step: str) -> None:
        """Show what is being started or ended."""
        if not self._console.is_terminal and step != self._step:
            self._console.print(step)
        self._step = step

    def show(self, demo: Demo) -> None:
        """Bring the picture up to date."""
        if self._console.is_terminal:
            self._live.update(_picture(demo, self._step))
        elif demo.measurements.received and time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + PLAIN_INTERVAL_S
            self._console.print(" · ".join(f"{name} {value}" for name, value in _figures(demo)))


def _figures(demo: Demo) -> list[tuple[str, str]]:
    seen = demo.measurements
    p50, p99 = seen.recent_ms()
    return [
        ("events/s", f"{seen.rate(time.perf_counter()):,.0f}"),
        ("p50", f"{p50:.1f} ms"),
        ("p99", f"{p99:.1f} ms"),
        ("lag", f"{max(0, seen.sent - seen.received):,}"),
        ("predictions", f"{seen.received:,}"),
        ("flagged", f"{seen.flagged:,}"),
    ]


def _picture(demo: Demo, step: str) -> Group | Text:
    if not demo.measurements.received:
        return Text(f"headrace demo · {step} …", style="dim")
    figures = Table.grid(expand=True)
    row = []
    for name, value in _figures(demo):
        figures.add_column(justify="center")
        row.append(Text.assemble((value, "bold cyan"), "\n", (name, "dim")))
    figures.add_row(*row)
    flags = Table(expand=True, box=None, header_style="dim")
    for name in ("event time", "card", "transaction", "score", "decision", "because"):
        flags.add_column(name, overflow="fold" if name == "because" else "ellipsis", no_wrap=name != "because")
    for flag in islice(reversed(demo.measurements.flags), SHOWN_FLAGS):
        style = "red" if flag.decision == "block" else "yellow"
        flags.add_row(
            flag.event_time[:19].replace("T", " "),
            flag.card_id,
            flag.transaction_id,
            f"{flag.score:.2f}",
            Text(flag.decision, style=style),
            _because(flag),
        )
    return Group(
        Panel(figures, title="headrace demo · transactions → fraud.flags", border_style="cyan"),
        Panel(flags, title="flags, newest first", border_style="red"),
        Text(" Ctrl-C ends the demo, broker included", style="dim"),
    )


def _because(flag: FraudFlag) -> str:
    """The reasons that make up most of the score."""
    return "; ".join(
        f"{each.text} (+{each.contribution:.2f})" for each in flag.reasons if each.contribution >= LEAST_SHOWN
    )


def _summary(console: Console, demo: Demo) -> int:
    seen = demo.measurements
    if seen.first_prediction_s is None:
        console.print("ended before the first prediction")
        return 0
    p50, p99 = seen.overall_ms()
    missing = seen.sent - seen.received
    console.print(
        f"{seen.sent:,} transactions sent, {seen.received:,} predictions received"
        + ("" if not missing else f", {missing:,} not seen before the end")
    )
    console.print(f"{seen.flagged:,} flagged · latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, producer to subscriber")
    console.print(f"first prediction {seen.first_prediction_s:.1f} s after the start")
    return 0
