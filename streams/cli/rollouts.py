"""headrace models promote and rollback: which version workers serve, while they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from models.engine import ModelNotFound
from models.repository import Model
from models.selection import AUTO
from streams.cli.console import Finite, run, terminal
from streams.cli.roots import name_argument, parse_reference
from streams.clock import SystemClock, rfc3339
from streams.errors import HeadraceError, SettingsError
from streams.pipelines import Domain, must_serve
from streams.settings import Settings, load

if TYPE_CHECKING:
    from streams.promoting import Rollouts
    from streams.rollout import Report, Rollout

WAIT_S = 30.0

wait_option = click.option(
    "--wait",
    "wait_s",
    type=Finite(0),
    default=WAIT_S,
    show_default=True,
    help="How many seconds to wait until every worker that runs has answered.",
)


@click.command()
@click.argument("reference", metavar="NAME/VERSION")
@click.option("--shadow", is_flag=True, help="Beside the version that serves: it answers nobody, and is compared.")
@click.option(
    "--canary",
    type=Finite(0, 1, min_open=True),
    metavar="SHARE",
    help="Let it answer for a share of the keys, e.g. 0.05; a key always has the same version.",
)
@wait_option
def promote(reference: str, shadow: bool, canary: float | None, wait_s: float) -> None:
    """Let all workers serve NAME/VERSION from now on, without a restart and without losing a record.

    The version is made ready here first, as workers do it. Then every running worker loads it beside the one that
    serves, checks its sha256, its tensors and its golden batch, and switches between two batches. One that cannot goes
    on with what it serves, and says why. Workers that start later serve it, too.

    With --shadow or --canary what serves stays, and NAME/VERSION becomes its challenger: see what it would answer with
    `headrace models compare NAME`. Pipelines whose answers are no single numbers, as vision's, take none.

    A pipeline of the settings at hand must serve NAME: give this command those of its workers (HEADRACE_VISION__MODEL).

    \b
    Examples:
      headrace models promote fraud/3 --shadow
      headrace models promote fraud/3 --canary 0.05
      headrace models promote fraud/3
      headrace models rollback fraud
    """
    if shadow and canary is not None:
        raise click.UsageError("--shadow and --canary exclude each other: a canary is compared, too.")
    name, version = _parse(reference)
    settings = load()
    chosen = settings.models.repository().load(name, version)
    pipelines = must_serve(name, settings, f"promoting {reference}", chosen.manifest.task)
    if shadow or canary:
        check_comparable(pipelines, f"putting {reference} beside what serves")
    _check_served(settings, pipelines, version, f"promoting {reference}")
    run(_roll_out(settings, chosen, pipelines, (canary or 0.0) if shadow or canary else None, wait_s))


@click.command()
@click.argument("name", callback=name_argument)
@wait_option
def rollback(name: str, wait_s: float) -> None:
    """End the challenge of model NAME; without one, let all workers serve what they served before the last promotion.

    Said again, it goes back by one more.

    \b
    Example:
      headrace models rollback fraud
    """
    settings = load()
    run(_roll_back(settings, name, must_serve(name, settings, f"rolling back {name}"), wait_s))


def check_comparable(pipelines: Sequence[Domain], doing: str) -> None:
    """Raises: HeadraceError where one of them takes no challenger."""
    from streams.rollout import incomparable

    for each in pipelines:
        if not each.comparable:
            raise HeadraceError(f"{doing}: {incomparable(each.name)}")


def _check_served(settings: Settings, pipelines: Sequence[Domain], version: int, doing: str) -> None:
    """Make a version ready as workers will, on the best engine that is here; theirs may be a better one.

    Raises: ModelError, HeadraceError where no worker of these settings would serve it.
    """
    for each in pipelines:
        section = getattr(settings, each.name)
        if section.version is not None:
            raise SettingsError(
                f"{doing}: these settings fix {each.name}.version = {section.version}, with which workers follow no "
                "rollout: take it out, here and for its workers; nothing changes"
            )
        chosen = msgspec.structs.replace(section, version=version, engine=AUTO)
        each.build(msgspec.structs.replace(settings, **{each.name: chosen})).close()


async def _roll_out(
    settings: Settings, model: Model, pipelines: Sequence[Domain], share: float | None, wait_s: float
) -> None:
    from streams.promoting import Rollouts
    from streams.rollout import Challenge, Rollout

    async with Rollouts(settings.kafka, settings.models) as rollouts:
        last = await rollouts.last(model.name) or _unasked(settings, model.name)
        if share is None:
            asked = Rollout(model.name, model.version, model.manifest.sha256, asked_at=_now()).after(last)
        elif model.version == last.version:
            raise click.UsageError(f"{model.reference} serves already: its challenger must be another version.")
        else:
            challenge = Challenge(model.version, model.manifest.sha256, share)
            asked = msgspec.structs.replace(last, challenge=challenge, asked_at=_now())
        await _ask(rollouts, _groups(settings, pipelines), asked, last, wait_s)


async def _roll_back(settings: Settings, name: str, pipelines: Sequence[Domain], wait_s: float) -> None:
    from streams.promoting import Rollouts
    from streams.rollout import Rollout

    groups = _groups(settings, pipelines)
    async with Rollouts(settings.kafka, settings.models) as rollouts:
        last = await rollouts.last(name)
        if last is not None and last.challenge is not None:
            await _ask(rollouts, groups, msgspec.structs.replace(last, challenge=None, asked_at=_now()), last, wait_s)
            return
        if last is None or not last.previous:
            raise ModelNotFound(
                f"rolling back {name}: nothing has served before {last.reference if last else 'what serves now'}; "
                f"choose a version with `headrace models promote {name}/VERSION`"
            )
        version, *older = last.previous
        before = settings.models.repository().load(name, version)
        _check_served(settings, pipelines, version, f"rolling back {name}")
        asked = Rollout(name, version, before.manifest.sha256, previous=tuple(older), asked_at=_now())
        await _ask(rollouts, groups, asked, last, wait_s)


async def _ask(rollouts: Rollouts, groups: Sequence[str], asked: Rollout, last: Rollout, wait_s: float) -> None:
    console = terminal(highlight=False)
    workers = sum([await rollouts.members(group) for group in groups])
    offset = await rollouts.ask(asked)
    console.print(_what(asked, last))
    if not workers:
        console.print(f"no worker of {', '.join(groups)} runs; those that start from now on will do so")
        return
    answers: dict[str, Report] = {}
    with console.status(f"waiting for {workers} workers"):
        async for report in rollouts.reports(offset, wait_s):
            answers[report.worker] = report
            if len(answers) >= workers:
                break
    _show(console, list(answers.values()))
    refused = [each for each in answers.values() if each.error]
    if refused or len(answers) < workers:
        raise HeadraceError(
            f"{len(answers) - len(refused)} of {workers} workers do so"
            + (f", {len(refused)} refused it" if refused else "")
            + (f", {workers - len(answers)} did not answer within {wait_s:g} s" if len(answers) < workers else "")
            + "; what refused it serves what it did, and tries again when it is promoted again"
        )


def _what(asked: Rollout, last: Rollout) -> str:
    """What is asked for, in words."""
    if asked.challenge is not None:
        role = f"answers for {asked.challenge.share:.3g} of the keys" if asked.challenge.share else "is in the shadow"
        return f"{asked.reference} serves, {asked.model}/{asked.challenge.version} {role}"
    if last.challenge is not None and last.version == asked.version:
        return f"{asked.reference} serves alone, without {asked.model}/{last.challenge.version}"
    return f"{asked.reference} serves" + (f", in place of {last.reference}" if last.version != asked.version else "")


def _show(console: Console, answers: list[Report]) -> None:
    """What each worker serves now; below that, in whole lines, why some do not do what was asked for."""
    table = Table("worker", "serves", "engine", "challenger", "loaded in", box=None)
    answers = sorted(answers, key=lambda report: report.worker)
    for each in answers:
        took = f"{each.seconds * 1000:.0f} ms"
        table.add_row(each.worker, each.serving, each.engine, each.challenger or "-", took)
    if answers:
        console.print(table)
    for each in answers:
        if each.error:
            console.print(f"{each.worker} refused it: {each.error}", markup=False, soft_wrap=True)


def _groups(settings: Settings, pipelines: Sequence[Domain]) -> list[str]:
    return [each.group(settings) for each in pipelines]


def _unasked(settings: Settings, name: str) -> Rollout:
    """What serves where nothing has been asked for."""
    from streams.rollout import Rollout

    model = settings.models.repository().load(name)
    return Rollout(name, model.version, model.manifest.sha256)


def _parse(reference: str) -> tuple[str, int]:
    name, version = parse_reference(reference)
    if version is None:
        raise click.BadParameter(f"expected NAME/VERSION, e.g. fraud/3, got {reference!r}", param_hint="NAME/VERSION")
    return name, version


def _now() -> str:
    return rfc3339(SystemClock().time())
