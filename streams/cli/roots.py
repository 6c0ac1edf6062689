"""`--root`, `NAME/VERSION` and a model's repository, as the commands of `headrace models` take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.manifest import NAME, VERSION

if TYPE_CHECKING:
    from models.repository import Repository


def root_option(name: str = "--root") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The folder of a user's own models: the argument `models`, a Repository with the bundled ones behind it."""
    return click.option(
        name,
        "models",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_repository,
        help="Folder of your own models.  [default: the setting models.root, .headrace/models]",
    )


def name_argument(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """The callback of an argument that names a model, of which no version is to be said."""
    if not NAME.fullmatch(name):
        raise click.BadParameter(
            f"expected lower-case letters, digits, _ and -, at most 64, got {name!r}", context, parameter
        )
    return name


def parse_reference(reference: str) -> tuple[str, int | None]:
    """`fraud` or `fraud/2`, taken apart. Raises: BadParameter."""
    name, slash, version = reference.partition("/")
    if not NAME.fullmatch(name) or (slash and not VERSION.fullmatch(version)):
        raise click.BadParameter(
            f"expected NAME or NAME/VERSION, e.g. fraud or fraud/2, got {reference!r}", param_hint="NAME"
        )
    return name, int(version) if slash else None


def _repository(context: click.Context, parameter: click.Parameter, root: Path | None) -> Repository:
    from streams.settings import Models, load

    return (load().models if root is None else Models(str(root))).repository()
