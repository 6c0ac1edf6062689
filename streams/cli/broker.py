"""`headrace broker`: start, stop and look at the embedded Kafka."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from connectors.broker import Broker, BrokerSettings, BrokerStatus
from streams.cli.console import terminal

WATCH_S = 0.5

_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=BrokerSettings.home,
    show_default=True,
    help="The broker's folder: its topics, logs and Kafka itself.",
)


@click.group()
def broker() -> None:
    """Run a real Kafka on this machine, without Docker, Java or root.

    It listens on 127.0.0.1 only. The first start fetches Kafka (45 MB); later ones need no network. Topics stay in the
    broker's folder from one start to the next.
    """


@broker.command()
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=BrokerSettings.port, show_default=True, help="Client port."
)
@_home
@click.option("--heap", default=BrokerSettings.heap, show_default=True, help="Java's largest heap, like 512m or 2g.")
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, and stop the broker then.")
def start(port: int, home: Path, heap: str, foreground: bool) -> None:
    """Start the broker, and return once it answers.

    \b
    Examples:
      headrace broker start
      headrace broker start --port 19092 --home /tmp/kafka
    """
    console = _console()
    embedded = Broker(BrokerSettings(home=home, port=port, heap=heap, owned=foreground))
    if foreground:
        signal.signal(signal.SIGTERM, _interrupt)
    with console.status("starting the embedded broker") as line:
        embedded.start(progress=lambda step: line.update(escape(step)))
    console.print(f"[green]broker ready[/] on [bold]{embedded.bootstrap_servers}[/] (pid {embedded.status().pid})")
    if foreground:
        _serve(embedded, console)
    else:
        console.print(f"stop it with [bold]headrace broker stop{escape(_home_option(home))}[/]")


@broker.command()
@_home
def stop(home: Path) -> None:
    """Stop the broker; its topics stay."""
    console = _console()
    with console.status("stopping the embedded broker"):
        stopped = Broker(BrokerSettings(home=home)).stop()
    console.print("broker stopped" if stopped else f"no broker runs on {escape(repr(str(home)))}")


@broker.command()
@_home
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def status(home: Path, as_json: bool) -> None:
    """Say whether the broker runs and answers; exit code 3 where it does not."""
    found = Broker(BrokerSettings(home=home)).status()
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
    else:
        _print(found, _console())
    if not found.ready:
        raise SystemExit(3)


def _print(found: BrokerStatus, console: Console) -> None:
    state = (
        "[green]ready[/]" if found.ready else "[yellow]running, but not answering[/]" if found.running else "stopped"
    )
    rows = {"broker": state}
    if found.running:
        rows |= {"bootstrap servers": str(found.bootstrap_servers), "pid": str(found.pid)}
    rows |= {
        "home": escape(str(found.home)),
        "topics on disk": decimal(found.data_bytes),
        "log": escape(str(found.log)),
    }
    for label, value in rows.items():
        console.print(f"[dim]{label:<18}[/] {value}")


def _serve(embedded: Broker, console: Console) -> None:
    try:
        console.print("press Ctrl-C to stop it")
        while embedded.status().running:
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        with console.status("stopping the embedded broker"):
            embedded.stop()
        console.print("broker stopped")
    else:
        console.print(
            f"[yellow]the broker ended[/], though not by this command; see {escape(str(embedded.status().log))}"
        )
        raise SystemExit(1)


def _console() -> Console:
    return terminal(highlight=False, soft_wrap=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _home_option(home: Path) -> str:
    return "" if home == BrokerSettings.home else f" --home {home}"
