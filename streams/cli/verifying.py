"""headrace models verify: is every version what it says it is, on every engine that is here?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from streams.cli.console import counting, summary, terminal
from streams.cli.roots import parse_reference, root_option

if TYPE_CHECKING:
    from models.repository import Repository
    from models.timings import Timing
    from models.verifying import Verdict


@click.command()
@click.argument("reference", metavar="[NAME[/VERSION]]", required=False)
@root_option()
def verify(reference: str | None, models: Repository) -> None:
    """Check versions: sha256, manifest, tensors, training sample, and the golden batch on every engine that is here.

    Without a version, all versions of NAME; without a name, all models. The exit code is 1 where one failed. Each
    engine's time for batches of 1, 64 and 1,024 rows is measured on the way, and kept for `headrace models show`.

    \b
    Example:
      headrace models verify fraud/2
    """
    from models.timings import Timings
    from models.verifying import verify as verify_version

    chosen = _chosen(models, reference)
    verdicts: list[Verdict] = []
    with counting() as progress:
        task = progress.add_task("verifying", total=len(chosen))
        for name, version in chosen:
            verdicts += verify_version(models, name, version)
            progress.advance(task)
    _show(verdicts)
    try:
        for verdict in verdicts:
            if verdict.timing is not None:
                Timings(models.own).put(verdict.timing)
    except OSError as error:
        summary(f"the times were not kept: writing below {models.own}: {error.strerror or error}")
    failed = sum(not verdict.ok for verdict in verdicts)
    if failed:
        summary(f"{failed} of {len(verdicts)} failed")
        sys.exit(1)


def _chosen(models: Repository, reference: str | None) -> list[tuple[str, int]]:
    if reference is None:
        return [(name, version) for name in models.names() for version in models.versions(name)]
    name, version = parse_reference(reference)
    models.root_of(name, models.default(name) if version is None else version)  # says what there is, if not this
    return [(name, each) for each in (models.versions(name) if version is None else [version])]


def _show(verdicts: list[Verdict]) -> None:
    """What each engine made of each version; below that, in whole lines, why."""
    table = Table(box=None)
    for heading in ("model", "engine", "", "batch of 1", "64", "1,024"):
        table.add_column(heading, justify="right" if heading[:1] in "b61" and heading else "left", overflow="fold")
    for verdict in verdicts:
        result = Text("ok", "green") if verdict.ok else Text("failed", "red")
        times = (_time(verdict.timing, rows) for rows in (1, 64, 1024))
        table.add_row(verdict.reference, verdict.engine, result, *times)
    console = terminal(highlight=False)
    console.print(table)
    for verdict in verdicts:
        if verdict.why:
            place = f"{verdict.reference} {verdict.engine}".rstrip()
            console.print(f"{place}: {verdict.why}", markup=False, soft_wrap=True)


def _time(timing: Timing | None, rows: int) -> str:
    return "" if timing is None or rows not in timing.seconds else f"{timing.seconds[rows] * 1000:.3g} ms"
