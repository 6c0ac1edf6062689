"""`headrace schemas`: the messages as JSON Schema, the topics as AsyncAPI."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from streams.cli.console import pipe_safe


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["json-schema", "asyncapi"]),
    help="[json-schema on standard output, both in a folder]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write files into this folder: one for each message, and asyncapi.json.",
)
def schemas(form: Literal["json-schema", "asyncapi"] | None, output: Path | None) -> None:
    """Print or write the schemas of all messages, and an AsyncAPI 3.0 document of all topics.

    They come from the structs that decode and encode; topic names and the server are those of your settings.

    \b
    Examples:
      headrace schemas
      headrace schemas --format asyncapi > asyncapi.json
      headrace schemas --output schemas/
    """
    from streams import asyncapi, settings

    loaded = settings.load()
    if output is None:
        shown = asyncapi.document(loaded) if form == "asyncapi" else asyncapi.json_schemas()
        with pipe_safe():
            click.echo(_pretty(shown))
        return
    files: dict[str, object] = {}
    if form != "asyncapi":
        files |= {f"{name}.schema.json": schema for name, schema in asyncapi.json_schemas().items()}
    if form != "json-schema":
        files["asyncapi.json"] = asyncapi.document(loaded)
    _write(output, files)


def _write(folder: Path, files: dict[str, object]) -> None:
    from streams.errors import HeadraceError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(_pretty(content) + b"\n")
            click.echo(str(folder / name))
    except OSError as error:
        raise HeadraceError(f"writing schemas to {folder}: {error.strerror or error}") from None


def _pretty(content: object) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(content), indent=2)
