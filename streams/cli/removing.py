"""headrace models remove: take a version of one's own away."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from streams.cli.console import summary
from streams.cli.roots import parse_reference, root_option

if TYPE_CHECKING:
    from models.repository import Repository


@click.command()
@click.argument("reference", metavar="NAME/VERSION")
@root_option()
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(reference: str, models: Repository, yes: bool) -> None:
    """Remove one version of your own; bundled ones stay.

    Workers that serve it go on: they have it in memory. One that is started later does not find it.

    \b
    Example:
      headrace models remove churn/1
    """
    name, version = parse_reference(reference)
    if version is None:
        raise click.BadParameter(f"expected NAME/VERSION, e.g. {name}/1, got {name!r}", param_hint="NAME/VERSION")
    root = models.root_of(name, version)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: give --yes")
        click.confirm(f"remove {reference} from {root}?", abort=True, err=True)
    summary(f"removed {models.remove(name, version)}")
