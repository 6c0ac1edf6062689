"""What `headrace topics lag` shows: a look at a consumer group, once or every second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import click
import msgspec
from aiokafka import TopicPartition
from rich.table import Table

from streams.cli.console import stop_on_signal, terminal
from streams.clock import SystemClock
from streams.errors import TopicError
from streams.lag import LagReader, PartitionLag
from streams.settings import Kafka
from streams.topics import Admin, absent

WATCH_S = 1.0


async def show_lag(
    kafka: Kafka, group: str, topic: str | None, others: Sequence[str], *, watch: bool, as_json: bool
) -> None:
    """Print a group's lag; with `watch` every second until a signal.

    Args:
        topic: what the group reads, where that is known: it is shown before anything is committed, too.
        others: pipelines that may have been meant where there is nothing to show.

    Raises:
        TopicError: the group has committed nothing, and what it reads is not there.
    """
    with stop_on_signal() as stop:
        async with Admin(kafka) as admin, LagReader(kafka) as reader:
            _print(await _look(kafka, admin, reader, group, topic, others), as_json, watch)
            while watch and not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), WATCH_S)
                if not stop.is_set():
                    _print(await _look(kafka, admin, reader, group, topic, others), as_json, watch)


async def _look(
    kafka: Kafka, admin: Admin, reader: LagReader, group: str, topic: str | None, others: Sequence[str]
) -> list[PartitionLag]:
    committed = await reader.committed(group)
    there = await admin.partitions()
    names = {partition.topic for partition in committed} | ({topic} if topic else set())
    partitions = [TopicPartition(name, n) for name in sorted(names & there.keys()) for n in range(there[name])]
    if not partitions:
        missing = f", and its {absent(kafka, topic)}" if topic else ""
        hint = f"; that of other pipelines: {' or '.join(f'`headrace topics lag {name}`' for name in others)}"
        raise TopicError(
            f"looking for the lag of group {group!r}: it has committed nothing{missing}{hint if others else ''}"
        )
    return await reader.lag(partitions, committed, SystemClock().time())


def _print(lags: Sequence[PartitionLag], as_json: bool, watch: bool = False) -> None:
    if as_json:
        click.echo(msgspec.json.encode(lags))
        return
    console = terminal()
    if console.is_terminal and watch:
        console.clear()
    console.print(_table(lags))


def _table(lags: Sequence[PartitionLag]) -> Table:
    table = Table(box=None, show_footer=len(lags) > 1)
    table.add_column("topic", footer="all")
    known = [lag.seconds for lag in lags if lag.seconds is not None]
    totals = {"records": f"{sum(lag.records for lag in lags):,}", "seconds": f"{max(known, default=0):,.1f}"}
    for name in ("partition", "committed", "end", "records", "seconds"):
        table.add_column(name, justify="right", footer=totals.get(name, ""))
    for lag in lags:
        committed = "-" if lag.committed is None else f"{lag.committed:,}"
        seconds = "?" if lag.seconds is None else f"{lag.seconds:,.1f}"
        table.add_row(lag.topic, str(lag.partition), committed, f"{lag.end:,}", f"{lag.records:,}", seconds)
    return table
