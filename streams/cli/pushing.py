"""What every command under `headrace produce` does: find the topic, push events into it, say what was pushed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from streams.cli.console import DEFAULT_PARTITIONS, Meter, existing_file, run, stop_on_signal, summary

if TYPE_CHECKING:
    from connectors.columns import Field
    from connectors.files import EventFile
    from streams.producing import EventProducer, Events, Pace
    from streams.settings import Settings

SIMULATOR = "simulator"
KEY = "card_id"


@dataclass(frozen=True)
class Source:
    """One kind of event.

    Args:
        pipeline: whose input it is.
        fields: what an event in a file holds.
        simulated: begins to simulate.
    """

    pipeline: str
    fields: Sequence[Field]
    simulated: Callable[[], Iterator[Events]]


def push(
    kind: Source,
    *,
    source: str,
    columns: dict[str, str],
    bad_rows: str,
    topic: str | None,
    create: bool,
    rate: float,
    count: int,
    seconds: float,
) -> None:
    """Push events, with the options of the command line."""
    from streams import settings
    from streams.producing import Pace

    if source == SIMULATOR and columns:
        raise click.UsageError("--map renames a file's columns; the simulator has none: give --from FILE as well")
    with ExitStack() as stack:
        file = None if source == SIMULATOR else stack.enter_context(_open(kind, source, columns, bad_rows))
        loaded = settings.load()
        topic = topic or getattr(loaded, kind.pipeline).input
        run(_Job(loaded, topic, create, Pace(rate, count, seconds), kind, file).run())


@dataclass(frozen=True)
class _Job:
    settings: Settings
    topic: str
    create: bool
    pace: Pace
    kind: Source
    file: EventFile | None

    async def run(self) -> None:
        """Everything from the look at the topic to the summary, which is printed after a failure, too."""
        from streams.producing import EventProducer
        from streams.topics import Topic, find

        await find(self.settings.kafka, Topic(self.topic), DEFAULT_PARTITIONS if self.create else None)
        started = time.perf_counter()
        limit_s = self.settings.worker.broker_timeout_s
        async with EventProducer(self.settings.kafka, self.topic, limit_s) as producer:
            try:
                await self._pump(producer)
                await producer.flush()
            finally:
                self._summarise(producer, time.perf_counter() - started)

    async def _pump(self, producer: EventProducer) -> None:
        from streams.producing import pump

        file, pace = self.file, self.pace
        total = float(file.total_bytes) if file else float(pace.count) or None
        with stop_on_signal() as stop, Meter("events", total) as meter:
            events = _file_events(file) if file else self.kind.simulated()
            await pump(producer, events, pace, stop, lambda n: meter.show(n, file.bytes_read if file else n))

    def _summarise(self, producer: EventProducer, seconds: float) -> None:
        rate = producer.acknowledged / max(seconds, 1e-9)
        text = f"{producer.acknowledged:,} events to {self.topic} in {seconds:.1f} s ({rate:,.0f}/s)"
        if producer.sent != producer.acknowledged:
            text += f"; {producer.sent - producer.acknowledged:,} more were sent, but not acknowledged"
        if self.file and self.file.skipped:
            text += f"; {self.file.skipped:,} bad rows left out, the first: {self.file.first_skipped}"
        summary(text)


def _open(kind: Source, source: str, columns: dict[str, str], bad_rows: str) -> EventFile:
    from connectors.files import open_events

    return open_events(
        existing_file(source),
        fields=kind.fields,
        key=KEY,
        columns=columns,
        bad_rows="skip" if bad_rows == "skip" else "stop",
    )


def _file_events(file: EventFile) -> Iterator[Events]:
    for batch in file:
        yield batch.keys, batch.values
