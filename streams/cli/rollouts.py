"""headrace models promote and rollback: which version workers serve, while they run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from models import repository
from models.engine import ModelNotFound
from models.repository import ZOO, Model
from streams.cli.console import run
from streams.clock import SystemClock
from streams.pipelines import PIPELINES

if TYPE_CHECKING:
    from pathlib import Path

    from streams.promoting import Rollouts
    from streams.rollout import Report, Rollout
    from streams.settings import Settings

WAIT_S = 30.0

wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=WAIT_S,
    show_default=True,
    help="How many seconds to wait until every worker that runs has answered.",
)


@click.command()
@click.argument("reference", metavar="NAME/VERSION")
@wait_option
def promote(reference: str, wait_s: float) -> None:
    """Let all workers serve NAME/VERSION from now on, without a restart and without losing a record.

    The version is checked here first. Then every running worker loads it beside the one that serves, checks its sha256,
    its tensors and its golden batch, and switches between two batches. One that cannot goes on with what it serves,
    and says why. Workers that start later serve it, too. A worker whose settings fix a version does not listen.

    \b
    Examples:
      headrace models promote fraud/3
      headrace models rollback fraud
    """
    name, version = _parse(reference)
    settings = _settings()
    chosen = repository.load(_root(settings, name), name, version)
    repository.open_engine(chosen).close()
    run(_roll_out(settings, chosen, wait_s))


@click.command()
@click.argument("name")
@wait_option
def rollback(name: str, wait_s: float) -> None:
    """Let all workers serve again what they served of model NAME before the last promotion.

    Said again, it goes back by one more.
    """
    run(_roll_back(_settings(), name, wait_s))


async def _roll_out(settings: Settings, model: Model, wait_s: float) -> None:
    from streams.promoting import Rollouts
    from streams.rollout import Rollout

    async with Rollouts(settings.kafka, settings.models) as rollouts:
        last = await rollouts.last(model.name) or _unasked(settings, model.name)
        asked = Rollout(model.name, model.version, model.manifest.sha256, asked_at=_now()).after(last)
        await _ask(rollouts, settings, asked, last, wait_s)


async def _roll_back(settings: Settings, name: str, wait_s: float) -> None:
    from streams.promoting import Rollouts
    from streams.rollout import Rollout

    async with Rollouts(settings.kafka, settings.models) as rollouts:
        last = await rollouts.last(name)
        if last is None or not last.previous:
            raise ModelNotFound(
                f"rolling back {name}: nothing has served before {last.reference if last else 'what serves now'}; "
                f"choose a version with `headrace models promote {name}/VERSION`"
            )
        version, *older = last.previous
        before = repository.load(_root(settings, name), name, version)
        repository.open_engine(before).close()
        asked = Rollout(name, version, before.manifest.sha256, tuple(older), _now())
        await _ask(rollouts, settings, asked, last, wait_s)


async def _ask(rollouts: Rollouts, settings: Settings, asked: Rollout, last: Rollout | None, wait_s: float) -> None:
    console = Console(highlight=False)
    groups = [
        settings.worker.group_of(domain.name)
        for domain in PIPELINES.values()
        if _serves(settings, domain.name, asked.model)
    ]
    workers = sum([await rollouts.members(group) for group in groups])
    offset = await rollouts.ask(asked)
    before = f", {last.reference} before" if last is not None and last.version != asked.version else ""
    console.print(f"{asked.reference} is to serve{before}")
    if not workers:
        console.print(f"no worker of {', '.join(groups)} runs; those that start from now on serve {asked.reference}")
        return
    answers: dict[str, Report] = {}
    with console.status(f"waiting for {workers} workers"):
        async for report in rollouts.reports(offset, wait_s):
            answers[report.worker] = report
            if len(answers) >= workers:
                break
    _show(console, list(answers.values()), asked)
    refused = [each for each in answers.values() if each.error]
    if refused or len(answers) < workers:
        raise click.ClickException(
            f"{len(answers) - len(refused)} of {workers} workers serve {asked.reference}"
            + (f", {len(refused)} refused it" if refused else "")
            + (f", {workers - len(answers)} did not answer within {wait_s:g} s" if len(answers) < workers else "")
            + "; what refused it serves what it did, and tries again when it is promoted again"
        )


def _show(console: Console, answers: list[Report], asked: Rollout) -> None:
    table = Table("worker", "serves", "engine", "loaded in", "", box=None)
    for each in sorted(answers, key=lambda report: report.worker):
        table.add_row(each.worker, each.serving, each.engine, f"{each.seconds * 1000:.0f} ms", each.error)
    if answers:
        console.print(table)


def _serves(settings: Settings, pipeline: str, model: str) -> bool:
    return getattr(getattr(settings, pipeline), "model", None) == model


def _unasked(settings: Settings, name: str) -> Rollout | None:
    """What serves where nothing has been asked for."""
    from streams.rollout import Rollout

    model = repository.load(_root(settings, name), name)
    return Rollout(name, model.version, model.manifest.sha256)


def _root(settings: Settings, name: str) -> Path:
    from pathlib import Path

    return ZOO if settings.fraud.models is None else Path(settings.fraud.models)


def _parse(reference: str) -> tuple[str, int]:
    name, _, version = reference.partition("/")
    if not name or not version.isdecimal():
        raise click.BadParameter(f"expected NAME/VERSION, e.g. fraud/3, got {reference!r}", param_hint="NAME/VERSION")
    return name, int(version)


def _settings() -> Settings:
    from streams import settings

    return settings.load()


def _now() -> str:
    return datetime.fromtimestamp(SystemClock().time(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
