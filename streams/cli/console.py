"""What the commands share: how they run on an event loop, end on a signal, show progress and read their options."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from streams.cli.interrupts import leave_to_asyncio

T = TypeVar("T")

DEFAULT_PARTITIONS = 4


def terminal(*, stderr: bool = False, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """Where a command writes for people. A name like `fraud:cat:` stays what it is, and does not become a picture."""
    return Console(stderr=stderr, highlight=highlight, soft_wrap=soft_wrap, emoji=False)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. What the Kafka client logs on its way to an error, the error says in one sentence."""
    import uvloop

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    leave_to_asyncio()
    return uvloop.run(main)


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set, inside a running loop, so that a command can end in order."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def pipe_safe() -> Iterator[None]:
    """End quietly where the reader of standard output has gone, as in `... | head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        leave_standard_output()


def leave_standard_output() -> None:
    """Let what is still to come go nowhere: Python flushes once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Meter:
    """Events so far and their rate, with a bar where the end is known; shown on a terminal, silent elsewhere.

    Args:
        unit: what is counted, for people.
        total: when the bar is full; None where nobody knows.
    """

    def __init__(self, unit: str, total: float | None) -> None:
        self._console = terminal(stderr=True)
        self._progress = Progress(
            BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(), console=self._console, transient=True
        )
        self._unit = unit
        self._task: TaskID = self._progress.add_task("", total=total, note="")

    def __enter__(self) -> Meter:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def show(self, events: int, completed: float) -> None:
        """So many events are done, and so much of the total."""
        if self._console.is_terminal:
            elapsed = self._progress.tasks[self._task].elapsed or 0.0
            rate = f"  {events / elapsed:,.0f}/s" if elapsed > 0.2 else ""
            self._progress.update(self._task, completed=completed, note=f"{events:,} {self._unit}{rate}")


class Finite(click.FloatRange):
    """A number within bounds, to which `nan` and `inf`, that no comparison or conversion survives, do not belong."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {value!r}", parameter, context)
        return number


def pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """The callback of a repeatable option `left=right`."""
    found: dict[str, str] = {}
    for value in values:
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            raise click.BadParameter(f"expected {parameter.metavar or 'NAME=VALUE'}, got {value!r}", context, parameter)
        if left in found:
            raise click.BadParameter(f"{left!r} is given twice", context, parameter)
        found[left] = right
    return found


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--map` and `--bad-rows`, for commands that read files."""
    command = click.option(
        "--bad-rows",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="A row that cannot be converted ends the run, or is left out and counted.",
    )(command)
    return click.option(
        "--map",
        "columns",
        multiple=True,
        callback=pairs,
        metavar="FIELD=COLUMN",
        help="Read FIELD from the file's COLUMN; repeat it for several.",
    )(command)


def recorded_option(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--transactions FILE`, for what learns or is judged by labelled transactions: the argument `files`."""
    return click.option(
        "--transactions",
        "files",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        multiple=True,
        required=required,
        help="Parquet file of labelled transactions; may be given again, e.g. for later weeks."
        + ("" if required else "  [default: simulated ones]"),
    )


def counting(*more: ProgressColumn) -> Progress:
    """Progress bars of steps that are counted, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=terminal(stderr=True),
    )


def file_name(path: Path) -> str:
    """A file's name as a text that may be written and shown, whatever bytes it is of."""
    name = os.fsencode(path.name).decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def existing_file(text: str) -> Path:
    """A file that an option names; whether it can be read is its reader's business."""
    return Path(text).expanduser()


def summary(text: str) -> None:
    """The last line of a command, on standard error: standard output is for events."""
    terminal(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)
