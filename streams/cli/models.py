"""headrace models: list, show, train, evaluate and optimise what serves."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from models import repository
from models.engine import ModelNotFound
from models.repository import ZOO
from streams.cli.evaluate import evaluate
from streams.cli.manifests import manifest_table
from streams.cli.optimise import optimise
from streams.cli.thresholds import thresholds
from streams.cli.train import train


@click.group(name="models", help="List, show, train, evaluate and optimise the models that pipelines serve.")
def models() -> None:
    pass


@models.command(name="list", help="The models of a repository and their newest versions.")
@click.option(
    "--root", type=click.Path(path_type=Path), default=ZOO, help="Model repository  [default: the bundled one]"
)
def list_models(root: Path) -> None:
    table = Table("model", "versions", "what it does", "licence", box=None)
    for name in repository.names(root):
        manifest = repository.load(root, name).manifest
        table.add_row(
            name, ", ".join(map(str, repository.versions(root, name))), manifest.description, manifest.licence
        )
    if not table.row_count:
        raise ModelNotFound(f"listing models in {root}: there are none; train one with `headrace models train fraud`")
    Console().print(table)


@models.command(help="One model's manifest: tensors, thresholds, measured quality. NAME is e.g. fraud or fraud/1.")
@click.argument("name")
@click.option(
    "--root", type=click.Path(path_type=Path), default=ZOO, help="Model repository  [default: the bundled one]"
)
def show(name: str, root: Path) -> None:
    bare, _, version = name.partition("/")
    if version and not version.isdecimal():
        raise click.BadParameter(f"expected NAME or NAME/VERSION, got {name!r}", param_hint="NAME")
    Console().print(manifest_table(repository.load(root, bare, int(version) if version else None)))


models.add_command(evaluate)
models.add_command(optimise)
models.add_command(thresholds)
models.add_command(train)
