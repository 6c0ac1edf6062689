"""headrace models build: what an engine compiles for this machine's GPU, before a worker needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from models.engine import EngineUnavailable
from streams.cli.console import terminal
from streams.cli.roots import parse_reference, root_option
from streams.settings import Batch

if TYPE_CHECKING:
    from models.engines.aside import Aside
    from models.repository import Model, Repository

LOOK_S = 0.2


@click.command()
@click.argument("name")
@click.option("--engine", type=click.Choice(["tensorrt"]), default="tensorrt", show_default=True)
@click.option(
    "--max-batch-size",
    type=click.IntRange(1, 1_000_000),
    default=Batch().max_batch_size,
    show_default=True,
    metavar="ROWS",
    help="The largest micro-batch; the same as the worker's setting batch.max_batch_size.",
)
@root_option()
@click.option(
    "--plans",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where what is built is kept  [default: the user's cache folder]",
)
def build(name: str, engine: str, max_batch_size: int, models: Repository, plans: Path | None) -> None:
    """Compile a model for this machine's GPU. NAME is e.g. fraud or fraud/2.

    A TensorRT plan takes seconds to minutes to build and is good for one GPU, one TensorRT, one network and one largest
    batch. A worker with `engine = "auto"` serves on the next best engine while there is none. What is there already is
    not built again.

    \b
    Example:
      headrace models build fraud --max-batch-size 4096
    """
    _build(models.load(*parse_reference(name)), engine, max_batch_size, plans)


def _build(model: Model, engine: str, max_batch_size: int, plans: Path | None) -> None:
    from models import selection
    from models.engines.tensorrt_build import build_aside
    from models.selection import EngineOptions

    reason = selection.ENGINES[engine].why_not()
    if reason:
        raise EngineUnavailable(f"building {model.reference} for {engine}: {reason}; nothing was built")
    follow(build_aside(model, max_batch_size, plans), model.reference)
    options = EngineOptions(max_batch_size=max_batch_size, plans=plans)
    opened = selection.open_by_name(model, engine, options)
    name = opened.name
    opened.close()
    terminal().print(f"{model.reference} is built for {name}; its golden batch is reproduced")


def follow(aside: Aside, reference: str) -> None:
    """Show a bar until the work is done; it ends with this command, however that ends.

    Raises: as Aside.wait.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    try:
        with Progress(*columns, TextColumn("{task.fields[doing]}"), console=terminal(stderr=True)) as progress:
            task = progress.add_task(f"building {reference}", total=1.0, doing="")
            while not aside.poll(LOOK_S):
                progress.update(task, completed=aside.progress.share, doing=aside.progress.doing)
            progress.update(task, completed=aside.progress.share, doing=aside.progress.doing)
        aside.wait()
    finally:
        aside.cancel()
