"""`headrace topics`: create topics, list them, show how far a consumer group is behind, delete them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table

from streams.cli.console import DEFAULT_PARTITIONS, pipe_safe, run, terminal
from streams.pipelines import PIPELINES

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.topics import Topic

INTERNAL = "__"  # Kafka's own topics begin with it
NEARLY = 0.8  # so alike, a topic's name may be a pipeline's, misspelt

_json = click.option("--json", "as_json", is_flag=True, help="One JSON array a look, instead of a table.")


@click.group()
def topics() -> None:
    """Create topics, list them, show the lag of a consumer group, delete them."""


@topics.command()
@click.argument("names", nargs=-1, metavar="[PIPELINE|NAME]...")
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=DEFAULT_PARTITIONS,
    show_default=True,
    help="Partitions of each topic: so many workers can share the work.",
)
@click.option("--replication", type=click.IntRange(1), help="Copies of each topic.  [the broker's default]")
@click.option("--yes", is_flag=True, help="Do not ask whether a NAME that is nearly a pipeline's was meant to be that.")
def create(names: tuple[str, ...], partitions: int, replication: int | None, yes: bool) -> None:
    """Create all topics of a PIPELINE, or plain topics by NAME; without either, those of all pipelines.

    A pipeline's topics are its input, its outputs, its dead letters, what it reads beside its input (fraud its labels,
    labels the flags), a compacted changelog for its state and, of fraud, the log of its table. They need the same
    number of partitions; those that tell which version of a model serves have one. What exists already is left as it
    is.

    \b
    Examples:
      headrace topics create                  # of the pipelines fraud, labels and vision
      headrace topics create fraud --partitions 16 --replication 3
      headrace topics create refunds --partitions 8
    """
    from streams.settings import load

    settings = load()
    if not yes:
        _ask_what_was_meant(settings, names)
    run(_create(settings, names or tuple(PIPELINES), partitions, replication))


@topics.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Kafka's internal topics, too.")
@_json
def list_topics(everything: bool, as_json: bool) -> None:
    """List the topics with their partitions and records.

    Records are the offsets that a topic holds; compaction and transactions make them more than one can read.

    \b
    Examples:
      headrace topics list
      headrace topics list --json
    """
    from streams.settings import load

    with pipe_safe():
        run(_list(load(), everything, as_json))


@topics.command()
@click.argument("pipeline", required=False, type=click.Choice(list(PIPELINES)), metavar="[PIPELINE]")
@click.option("--group", help="The consumer group.  [the pipeline's: headrace-<pipeline>]")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@_json
def lag(pipeline: str | None, group: str | None, watch: bool, as_json: bool) -> None:
    """Show how far the workers of PIPELINE (fraud, where none is named), or any consumer group, are behind.

    For each partition, in records: offsets between what the group has committed and the end. In seconds: how long ago
    the first record that it has not committed was produced.

    \b
    Examples:
      headrace topics lag
      headrace topics lag vision --watch
      headrace topics lag --group billing --json
    """
    from streams.cli.lag import show_lag
    from streams.settings import load

    settings = load()
    own = {each.name: each.group(settings) for each in PIPELINES.values()}
    read = pipeline or next((name for name, its in own.items() if group in (None, its)), "")
    topic = getattr(settings, read).input if read else None
    others = [] if pipeline or group else [name for name in own if name != read]
    with pipe_safe():
        run(show_lag(settings.kafka, group or own[read], topic, others, watch=watch, as_json=as_json))


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(names: tuple[str, ...], yes: bool) -> None:
    """Delete topics by NAME, with all that they hold.

    \b
    Example:
      headrace topics delete refunds --yes
    """
    from streams.settings import load

    settings = load()
    if not yes:
        click.confirm(f"delete {', '.join(names)} at {settings.kafka.bootstrap_servers} for ever?", abort=True)
    run(_delete(settings, names))


def _ask_what_was_meant(settings: Settings, names: Sequence[str]) -> None:
    """Make sure that a plain topic is wanted where its name is nearly a pipeline's.

    Raises:
        UsageError: there is no terminal to ask on. Abort: it is not wanted.
    """
    for name in names:
        near = difflib.get_close_matches(name, PIPELINES, 1, NEARLY)
        if not near or name in PIPELINES or _known(settings, name):
            continue
        if not sys.stdin.isatty():
            raise click.UsageError(
                f"did you mean the pipeline {near[0]}, and not a topic called {name}? --yes creates that topic"
            )
        click.confirm(f"did you mean the pipeline {near[0]}? create a plain topic {name}", abort=True, err=True)


async def _create(settings: Settings, names: Sequence[str], partitions: int, replication: int | None) -> None:
    from streams.topics import Admin

    console = terminal(highlight=False, soft_wrap=True)
    async with Admin(settings.kafka) as admin:
        there = await admin.partitions()
        wanted = [topic for name in names for topic in _wanted(settings, name)]
        for topic in wanted:
            count = topic.partitions or partitions
            if topic.name not in there:
                there[topic.name] = count
                await admin.create(topic, partitions, replication)
                console.print(f"[green]created[/] {topic.name} with {count} partition{'s' * (count != 1)}")
            elif there[topic.name] == count:
                console.print(f"{topic.name} is there already")
            else:
                console.print(f"[yellow]{topic.name} is there already, with {there[topic.name]} partitions[/]")


def _wanted(settings: Settings, name: str) -> list[Topic]:
    from streams.topics import Topic

    if name in PIPELINES:
        return PIPELINES[name].topics(settings)
    # One pipeline may want more of a topic than another that has it, too.
    return [max(_known(settings, name), key=lambda topic: len(topic.config), default=Topic(name))]


def _known(settings: Settings, name: str) -> list[Topic]:
    """What pipelines want of a topic that they name."""
    return [topic for domain in PIPELINES.values() for topic in domain.topics(settings) if topic.name == name]


async def _list(settings: Settings, everything: bool, as_json: bool) -> None:
    import msgspec

    from streams.lag import LagReader
    from streams.topics import Admin

    async with Admin(settings.kafka) as admin, LagReader(settings.kafka) as reader:
        there = await admin.partitions()
        sizes = await reader.sizes({n: count for n, count in there.items() if everything or not n.startswith(INTERNAL)})
    if as_json:
        click.echo(msgspec.json.encode(sizes))
        return
    table = Table("topic", box=None)
    table.add_column("partitions", justify="right")
    table.add_column("records", justify="right")
    for size in sizes:
        table.add_row(size.name, str(size.partitions), f"{size.records:,}")
    terminal().print(
        table if sizes else "there are no topics; create those of a pipeline with `headrace topics create`"
    )


async def _delete(settings: Settings, names: Sequence[str]) -> None:
    from streams.errors import TopicError
    from streams.topics import Admin, absent

    async with Admin(settings.kafka) as admin:
        there = await admin.partitions()
        missing = [absent(settings.kafka, name) for name in names if name not in there]
        if missing:
            raise TopicError(f"deleting topics: {'; '.join(missing)}; nothing was deleted")
        await admin.delete(names)
    click.echo(f"deleted {', '.join(names)}")
