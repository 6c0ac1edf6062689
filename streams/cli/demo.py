"""`headrace demo`: everything at once, and what comes out of it."""

from __future__ import annotations

import asyncio
import time

import click

from streams.cli.console import Finite, run, stop_on_signal, terminal

HALVES = ("fraud", "vision")


@click.command()
@click.option("--seconds", type=Finite(min=1), help="End by itself after so long, with a summary.")
@click.option("--rate", type=Finite(min=1), default=2000, show_default=True, help="Transactions a second.")
@click.option("--only", type=click.Choice(HALVES), help="Show one of the two.  [both]")
def demo(seconds: float | None, rate: float, only: str | None) -> None:
    """Fraud and cameras on a real Kafka, in your terminal, with nothing to install.

    Starts the embedded broker, creates the topics, starts a fraud worker and a vision worker, pushes simulated card
    transactions and the frames of four simulated cameras, and shows what a subscriber sees: predictions a second,
    latency from producer to subscriber, lag, each flag with its reasons, and what happens before the cameras. These are
    to be seen in a browser, too: the address of the page is shown. Ctrl-C ends all of it. Every demo starts with empty
    topics, below .headrace/demo; the settings of its workers are there, too.

    \b
    Example:
      headrace demo
      headrace demo --only vision
      headrace demo --only fraud --seconds 30 --rate 10000
    """
    raise SystemExit(run(_demo(seconds, rate, HALVES if only is None else (only,))))


async def _demo(seconds: float | None, rate: float, halves: tuple[str, ...]) -> int:

    from streams.cli.demo_screen import REFRESH_S, Screen, summary
    from streams.demo.demo import Demo

    console = terminal(highlight=False, soft_wrap=True)
    screen = Screen(console)
    running = Demo(halves, rate, screen.tell)
    with stop_on_signal() as stop, screen:
        work = asyncio.create_task(running.run(stop))
        ends_at: float | None = None
        while not work.done():
            await asyncio.wait({work}, timeout=REFRESH_S)
            if running.shows:
                ends_at = ends_at or (time.perf_counter() + seconds if seconds else float("inf"))
                if time.perf_counter() >= ends_at:
                    stop.set()
            screen.show(running)
        await work
    for line in summary(running):
        console.print(line)
    return 0
