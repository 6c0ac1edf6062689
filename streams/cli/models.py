"""headrace models: what serves, from a network of your own to its last day."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from models.engine import ModelError
from models.repository import Repository, is_bundled
from models.selection import ENGINES, served_name
from models.timings import Timings
from streams.cli.adding import add
from streams.cli.build import build
from streams.cli.compare import compare
from streams.cli.console import terminal
from streams.cli.evaluate import evaluate
from streams.cli.manifests import model_table, size
from streams.cli.optimise import optimise
from streams.cli.removing import remove
from streams.cli.rollouts import promote, rollback
from streams.cli.roots import parse_reference, root_option
from streams.cli.sample import sample
from streams.cli.thresholds import thresholds
from streams.cli.train import train
from streams.cli.verifying import verify


@click.group(name="models", help="Add, train, look at and replace the models that pipelines serve.")
def models() -> None:
    pass


@models.command(name="list")
@root_option()
def list_models(models: Repository) -> None:
    """Every version of every model: your own, and the bundled ones.

    Marked is the version that serves where nothing else is said: the newest bundled one, or the first of your own that
    has no bundled one.

    \b
    Example:
      headrace models list --root my-models
    """
    table = Table(box=None)
    for heading in ("model", "version", "serves", "size", "licence", "folder", "what it does"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("version", "size") else "left")
    for name in models.names():
        for version in models.versions(name):
            table.add_row(*map(Text, _row(models, name, version)))
    terminal().print(table)


@models.command()
@click.argument("name")
@root_option()
def show(name: str, models: Repository) -> None:
    """One version: tensors, operators, size, quality, licence, where it comes from, and its engines' times.

    NAME is e.g. fraud or fraud/2; without a version, the one that serves. Times are those that
    `headrace models verify` measured on this machine.

    \b
    Example:
      headrace models show fraud
    """
    bare, version = parse_reference(name)
    model = models.load(bare, version)
    known = Timings(models.own)
    found = [known.get(model.manifest.sha256, served_name(engine, model)) for engine in ENGINES]
    terminal().print(model_table(model, [timing for timing in found if timing is not None]))


def _row(models: Repository, name: str, version: int) -> tuple[str, ...]:
    serves = "yes" if version == models.default(name) else ""
    root = models.root_of(name, version)
    folder = "bundled" if is_bundled(root) else str(root)
    try:
        model = models.load(name, version)
    except ModelError as error:
        return name, str(version), serves, "", "", folder, f"cannot be served: {error}"
    return name, str(version), serves, size(model), model.manifest.licence, folder, model.manifest.description


for command in (add, build, compare, evaluate, optimise, promote, remove, rollback, sample, thresholds, train, verify):
    models.add_command(command)
