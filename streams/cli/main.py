"""The `headrace` command: its groups, listed explicitly, and how errors reach a person."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import NoReturn

import click

from connectors.contract import ConnectorError
from models.engine import ModelError
from streams.cli.console import leave_standard_output, terminal
from streams.cli.extras import for_this_interpreter
from streams.errors import HeadraceError

# name -> the module that holds a command of the same name, and its line in the help; modules load when used.
COMMANDS = {
    "demo": "Everything at once: broker, topics, workers, simulated transactions and cameras, live view.",
    "broker": "The embedded Kafka broker: start, stop, status.",
    "topics": "Create topics, list them, show the lag, delete them.",
    "worker": "Run a worker of a pipeline.",
    "produce": "Push events into a topic, from a simulator or from files.",
    "subscribe": "Follow a topic, as a table or as JSON lines.",
    "predict": "Run a pipeline over a file, without a broker.",
    "models": "List, show, add, verify, remove, train and evaluate models.",
    "schemas": "The messages as JSON Schema and AsyncAPI.",
    "bench": "Measure Headrace beside what you would use instead.",
}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # wherever a command writes


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"streams.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="headrace")
def cli() -> None:
    """Streaming event processing for real-time inference: Kafka in, predictions out.

    New here? `headrace demo` needs nothing but Python. Settings come from headrace.toml and from the environment:
    HEADRACE_KAFKA__BOOTSTRAP_SERVERS points every command at your own cluster.
    """


def main() -> None:
    """Run the command; a user's mistake ends in one sentence on standard error and exit code 1."""
    try:
        cli(prog_name="headrace")
    except (HeadraceError, ConnectorError, ModelError) as error:
        _end(str(error))
    except OSError as error:
        if error.errno not in FULL:
            raise
        leave_standard_output()
        where = repr(str(error.filename)) if error.filename else "the output"
        _end(f"writing {where}: {error.strerror}; it is not whole; make room there, and run the command again")


def _end(message: str) -> NoReturn:
    console = terminal(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[red]error:[/red] {_escape(for_this_interpreter(message))}")
    sys.exit(1)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
