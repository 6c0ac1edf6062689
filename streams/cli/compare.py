"""headrace models compare: what a challenger would have answered."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click
import msgspec
import numpy as np
from rich.bar import Bar
from rich.table import Table

from models import comparison
from models.engine import ModelNotFound
from streams.cli.console import Meter, run, terminal
from streams.cli.rollouts import check_comparable
from streams.cli.roots import name_argument
from streams.clock import SystemClock
from streams.errors import TopicAbsent, TopicError
from streams.schemas import Comparison

if TYPE_CHECKING:
    from streams.settings import Settings

READ_S = 0.2
QUIET_READS = 5  # with nothing in them: the end has been reached
MOST = 5_000_000
BAR_WIDTH = 30


@dataclass
class _Pair:
    """What was read of one champion and one challenger."""

    ids: list[str] = field(default_factory=list)
    champion: list[float] = field(default_factory=list)
    challenger: list[float] = field(default_factory=list)
    answered: int = 0


@click.command()
@click.argument("name", callback=name_argument)
@click.option(
    "--from",
    "start",
    default="earliest",
    show_default=True,
    metavar="WHERE",
    help="earliest, -5m (s, m, h, d ago), a time like 2026-01-31T12:00:00Z, or epoch milliseconds.",
)
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="Disagreements to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of tables.")
def compare(name: str, start: str, top: int, as_json: bool) -> None:
    """Compare model NAME with its challenger, on what both said of the same events.

    Reads the shadow topic, which workers write while a challenger is in the shadow or a canary: agreement at the
    thresholds, both distributions, and the events on which they are furthest apart.

    \b
    Examples:
      headrace models promote fraud/3 --shadow
      headrace models compare fraud --from -1h
    """
    from streams.settings import load
    from streams.subscribing import Start

    try:
        first = Start.parse(start, SystemClock().time())
    except ValueError:
        raise click.BadParameter(
            f"expected earliest, an age like -5m, RFC 3339 or epoch milliseconds, got {start!r}", param_hint="--from"
        ) from None
    settings = load()
    topic = _shadow_topic(settings, name)
    advice = f"put a version beside it with `headrace models promote {name}/VERSION --shadow` while events flow"
    try:
        pairs = run(_read(settings, topic, first))
    except TopicAbsent as error:
        raise TopicError(f"comparing {name}: {error}; {advice}") from None
    if not pairs:
        since = "" if start == "earliest" else f"since {start} "
        raise ModelNotFound(f"comparing {name}: {topic} holds no comparisons {since}yet; {advice}")
    for (champion, challenger), pair in pairs.items():
        _report(settings, champion, challenger, pair, top, as_json)


def _shadow_topic(settings: Settings, name: str) -> str:
    from streams.pipelines import must_serve
    from streams.rollout import SHADOW

    pipelines = must_serve(name, settings, f"comparing {name}")
    check_comparable(pipelines, f"comparing {name}")
    return f"{getattr(settings, pipelines[0].name).output}{SHADOW}"


async def _read(settings: Settings, topic: str, start: object) -> dict[tuple[str, str], _Pair]:
    from streams.subscribing import Subscription

    decode = msgspec.json.Decoder(Comparison).decode
    pairs: dict[tuple[str, str], _Pair] = {}
    read = quiet = 0
    async with Subscription(settings.kafka, topic, start) as subscription:  # type: ignore[arg-type]
        with Meter("comparisons", None) as meter:
            while quiet < QUIET_READS and read < MOST:
                batches = await subscription.read(READ_S)
                quiet = 0 if batches else quiet + 1
                for batch in batches:
                    for value in batch.values:
                        try:
                            each = decode(value or b"")
                        except (msgspec.MsgspecError, UnicodeDecodeError):
                            continue
                        pair = pairs.setdefault((each.champion, each.challenger), _Pair())
                        pair.ids.append(each.id)
                        pair.champion.append(each.champion_prediction)
                        pair.challenger.append(each.challenger_prediction)
                        pair.answered += each.answered
                    read += len(batch)
                meter.show(read, read)
                await asyncio.sleep(0)
    return pairs


def _report(settings: Settings, champion: str, challenger: str, pair: _Pair, top: int, as_json: bool) -> None:
    old, new = np.array(pair.champion), np.array(pair.challenger)
    summary = comparison.compare(old, new, _thresholds(settings, champion), _thresholds(settings, challenger))
    worst = comparison.disagreements(old, new, summary, top).tolist()
    if as_json:
        body = {
            "champion": champion,
            "challenger": challenger,
            "answered_by_challenger": pair.answered,
            **dataclasses.asdict(summary),
            "disagreements": [
                {"id": pair.ids[row], "champion": pair.champion[row], "challenger": pair.challenger[row]}
                for row in worst
            ],
        }
        sys.stdout.write(msgspec.json.encode(body).decode() + "\n")
        return
    console = terminal(highlight=False)
    answered = f", {pair.answered:,} answered by {challenger}" if pair.answered else ""
    console.print(f"[bold]{challenger} beside {champion}[/bold]: {summary.events:,} events{answered}")
    console.print(
        f"difference: mean {summary.mean_difference:+.5f}, mean of its size {summary.mean_absolute_difference:.5f}, "
        f"largest {summary.largest_difference:.5f}; rank correlation {summary.rank_correlation:.4f}"
    )
    if summary.agreement:
        console.print(_agreement_table(champion, challenger, summary))
    console.print(_histogram(champion, challenger, summary))
    if worst:
        console.print("decided otherwise, then furthest apart:")
        table = Table("event", champion, challenger, "difference", box=None)
        for row in worst:
            table.add_row(pair.ids[row], f"{old[row]:.5f}", f"{new[row]:.5f}", f"{new[row] - old[row]:+.5f}")
        console.print(table)


def _agreement_table(champion: str, challenger: str, summary: comparison.Summary) -> Table:
    table = Table("threshold", "both", f"only {champion}", f"only {challenger}", "agree", box=None)
    for name, each in summary.agreement.items():
        edges = f"{each.champion_threshold:.4g} / {each.challenger_threshold:.4g}"
        table.add_row(
            f"{name} ({edges})",
            f"{each.both:,}",
            f"{each.champion_only:,}",
            f"{each.challenger_only:,}",
            f"{each.share:.3%}",
        )
    return table


def _histogram(champion: str, challenger: str, summary: comparison.Summary) -> Table:
    """Both distributions; bars by the logarithm, for most scores of rare things are low."""
    old, new = summary.histogram
    tallest = np.log1p(max(*old, *new))
    width = (summary.high - summary.low) / len(old)
    table = Table("prediction", champion, "", challenger, "", box=None)
    for place, (left, right) in enumerate(zip(old, new, strict=True)):
        low = summary.low + place * width
        table.add_row(
            f"{low:.3f} to {low + width:.3f}",
            f"{left:,}",
            Bar(tallest, 0, np.log1p(left), width=BAR_WIDTH, color="cyan"),
            f"{right:,}",
            Bar(tallest, 0, np.log1p(right), width=BAR_WIDTH, color="magenta"),
        )
    return table


def _thresholds(settings: Settings, reference: str) -> dict[str, float]:
    """Of a version's manifest; none where this machine does not have it."""
    name, _, version = reference.partition("/")
    try:
        return settings.models.repository().load(name, int(version)).manifest.thresholds
    except (ModelNotFound, ValueError):
        return {}
