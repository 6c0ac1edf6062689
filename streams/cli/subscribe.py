"""`headrace subscribe`: follow a topic, as a table or as JSON lines."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console
from rich.text import Text

from streams.cli.console import Finite, existing_file, pairs, pipe_safe, run, stop_on_signal, summary, terminal

if TYPE_CHECKING:
    from streams.cli.filming import Filming
    from streams.cli.records import Filter
    from streams.cli.watching import Watching
    from streams.records import RecordBatch
    from streams.settings import Kafka, Vision
    from streams.subscribing import Start

LOOK_S = 0.2
KEY_WIDTH = 16
_COLUMNS = f"{'part':>4}  {'offset':>10}  {'time':<24}  {'key':<{KEY_WIDTH}}  value"


@click.command()
@click.argument("topic")
@click.option(
    "--from",
    "start",
    default="latest",
    metavar="WHERE",
    show_default=True,
    help="latest, earliest, -5m (s, m, h, d ago), a time like 2026-01-31T12:00:00Z, or epoch milliseconds.",
)
@click.option("--key", help="Only records of this key.")
@click.option(
    "--where",
    "fields",
    multiple=True,
    callback=pairs,
    metavar="FIELD=VALUE",
    help="Only JSON values with this field; a.b is b within a. Repeat it for several: all must fit.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), help="[table on a terminal, else json]")
@click.option("--headers", is_flag=True, help="Show all headers; error.* of dead letters are always shown.")
@click.option("--limit", type=click.IntRange(0), default=0, help="End after so many records.  [no limit]")
@click.option("--seconds", type=Finite(0), default=0, help="End after so many seconds.  [no limit]")
@click.option(
    "--draw",
    metavar="OUT.mp4",
    help="Detections: write the frames as a film, with boxes, labels and zones, or classes.",
)
@click.option("--snapshots", metavar="DIR", help="Detections: write the best picture of each track.")
def subscribe(
    topic: str,
    start: str,
    key: str | None,
    fields: dict[str, str],
    form: Literal["table", "json"] | None,
    headers: bool,
    limit: int,
    seconds: float,
    draw: str | None,
    snapshots: str | None,
) -> None:
    """Follow TOPIC until Ctrl-C, or until --limit or --seconds.

    Joins no consumer group and commits nothing, so it never disturbs a worker. Records of aborted transactions are left
    out. Order holds within a partition. JSON lines hold topic, partition, offset, timestamp, key, value and headers; a
    value that is not JSON comes as value_base64.

    --draw and --snapshots fetch the frame of each detection from the topic that its `id` header names. Records are
    printed beside them only with --format. Zones are those of the setting vision.cameras. Of several cameras each has a
    film of its own, OUT.<camera>.mp4.

    \b
    Examples:
      headrace subscribe fraud.flags --where flagged=true
      headrace subscribe transactions --from -5m --key c0000042
      headrace subscribe transactions.dead-letter --from earliest --limit 10
      headrace subscribe fraud.flags --from earliest --format json --seconds 5 | jq .value.score
      headrace subscribe video.detections --from -1m --seconds 60 --draw gate.mp4 --key gate
    """
    from streams import settings
    from streams.cli.records import Filter
    from streams.clock import SystemClock
    from streams.subscribing import Start

    try:
        first = Start.parse(start, SystemClock().time())
    except ValueError:
        raise click.BadParameter(
            f"expected latest, earliest, an age like -5m, RFC 3339 or epoch milliseconds, got {start!r}",
            param_hint="'--from'",
        ) from None
    wanted = Filter(None if key is None else key.encode(), fields)
    as_json = (form or ("table" if sys.stdout.isatty() else "json")) == "json"
    drawn = draw is not None or snapshots is not None
    printer = _Printer(as_json, headers) if form is not None or not drawn else None
    loaded = settings.load()
    with pipe_safe(), ExitStack() as stack:
        filming = stack.enter_context(_filming(draw, snapshots, loaded.vision)) if drawn else None
        follower = _Follower(loaded.kafka, wanted, limit or sys.maxsize, printer, filming, loaded.vision.output)
        run(follower.follow(topic, first, seconds))
    follower.summarise()


def _filming(draw: str | None, snapshots: str | None, vision: Vision) -> Filming:
    from streams.cli.filming import Filming, outlines

    film, folder = (existing_file(each) if each else None for each in (draw, snapshots))
    return Filming(film, folder, outlines(vision))


@dataclass
class _Follower:
    """Passes what the filter lets through on to its readers, at most `left` records more."""

    kafka: Kafka
    wanted: Filter
    left: int
    printer: _Printer | None
    filming: Filming | None
    detections: str  # the topic that the settings have them on

    async def follow(self, topic: str, start: Start, seconds: float) -> None:
        from streams.subscribing import Subscription

        with stop_on_signal() as stop:
            async with AsyncExitStack() as stack:
                subscription = await stack.enter_async_context(Subscription(self.kafka, topic, start))
                watching = await self._watch(stack)
                ends = time.monotonic() + seconds if seconds else float("inf")
                while self.left and not stop.is_set() and (left := ends - time.monotonic()) > 0:
                    for batch in await subscription.read(min(LOOK_S, left)):
                        rows = self._choose(batch)
                        if rows and self.printer is not None:
                            self.printer.show(batch, rows)
                        if rows and watching is not None:
                            await watching.show(batch, rows, stop)
                    await asyncio.sleep(0)  # a topic that is never empty must not starve the signals
                if watching is not None:
                    watching.check(topic)

    def summarise(self) -> None:
        """What was drawn."""
        if self.filming is None:
            return
        summary(self.filming.told("no detection, or its frame is gone or damaged"))

    async def _watch(self, stack: AsyncExitStack) -> Watching | None:
        if self.filming is None:
            return None
        from streams.cli.watching import Watching

        return await stack.enter_async_context(Watching(self.kafka, self.filming, self.detections))

    def _choose(self, batch: RecordBatch) -> list[int]:
        rows = [row for row, _ in zip(self.wanted.rows(batch), range(self.left), strict=False)]
        self.left -= len(rows)
        return rows


@dataclass
class _Printer:
    """Writes records to standard output."""

    as_json: bool
    headers: bool
    _console: Console | None = None

    def show(self, batch: RecordBatch, rows: list[int]) -> None:
        if self.as_json:
            self._json(batch, rows)
        else:
            self._table(batch, rows)

    def _json(self, batch: RecordBatch, rows: list[int]) -> None:
        from streams.cli.records import json_line

        sys.stdout.buffer.write(b"".join(json_line(batch, row, headers=self.headers) + b"\n" for row in rows))
        sys.stdout.buffer.flush()

    def _table(self, batch: RecordBatch, rows: list[int]) -> None:
        from streams.cli.records import flat, readable, shown_headers
        from streams.clock import rfc3339

        if self._console is None:
            self._console = terminal(highlight=False)
            self._line(self._console, Text(_COLUMNS, "bold"))
        for row in rows:
            key = batch.keys[row]
            text = readable(key) if key is not None else "-"
            line = Text(f"{batch.partition:>4}  {batch.offsets[row]:>10}  ")
            line.append(f"{rfc3339(batch.timestamps_ms[row] / 1000):<24}  ", "dim")
            line.append(f"{text:<{KEY_WIDTH}}  ", "cyan").append(flat(batch.values[row]))
            self._line(self._console, line)
            for name, value in shown_headers(batch.headers[row], everything=self.headers).items():
                self._line(self._console, Text(f"{'':16}{name}: {value}", "yellow"))

    @staticmethod
    def _line(console: Console, line: Text) -> None:
        """One line: cut to the width of a terminal, whole in a file or a pipe."""
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)
