"""Chaos: what each fault did to each guarantee. The suite itself is tests/chaos; this runs its long version."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.guarantees import GUARANTEES
from benchmarks.processes import ROOT, STOP_LIMIT_S, exit_on_sigterm

SUITE = ("tests/chaos/test_long.py", "tests/chaos/test_kill.py")
SHORT = {"at_least_once": "at least", "exactly_once": "exactly"}


@dataclass(frozen=True)
class Row:
    """One scenario under one guarantee."""

    scenario: str
    guarantee: str
    doses: int
    inputs: int
    dead_letters: int
    repeats: int
    ends: int
    seed: int
    seconds: float
    violations: Sequence[str]
    evidence: str

    @property
    def verdict(self) -> str:
        kept, broken = ("seen", "MISSED") if self.scenario.startswith("control: ") else ("kept", "BROKEN")
        return broken if self.violations else kept


def read(report: Path) -> list[Row]:
    """The rows that the suite has reported so far."""
    if not report.exists():
        return []
    return [Row(**json.loads(line)) for line in report.read_text(encoding="utf-8").splitlines()]


def table(rows: Sequence[Row]) -> Table:
    """Draw the outcome for a terminal of 80 columns."""
    drawn = Table(title="Guarantees under faults", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("scenario", overflow="fold")
    drawn.add_column("once")
    for heading in ("doses", "inputs", "repeats", "ended"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("verdict")
    for row in rows:
        counted = (str(row.doses), f"{row.inputs:,}", f"{row.repeats:,}", str(row.ends))
        drawn.add_row(row.scenario, SHORT[row.guarantee], *counted, row.verdict)
    return drawn


def arguments(minutes: float, guarantee: str | None, seed: int | None, report: Path, evidence: Path) -> list[str]:
    """The command line of the suite."""
    asked: dict[str, Any] = {
        "--chaos-minutes": minutes,
        "--chaos-guarantee": guarantee,
        "--chaos-seed": seed,
        "--chaos-report": report,
        "--basetemp": evidence,
    }
    given = [f"{name}={value}" for name, value in asked.items() if value is not None]
    return ["-m", "pytest", "-v", "--tb=short", "--show-capture=no", *given, *SUITE]


@contextlib.contextmanager
def _suite(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    # On stderr: what pytest says is progress, and no part of the answer.
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=2)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)
            process.kill()
            process.wait()


@click.command("chaos")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=30,
    show_default=True,
    help="Chance goes on until then; the rest comes first, however long it takes.",
)
@click.option("--guarantee", type=click.Choice(GUARANTEES), help="Only this one.  [both, side by side]")
@click.option("--seed", type=int, help="Of the first random scenario.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
def chaos_command(minutes: float, guarantee: str | None, seed: int | None, as_json: bool) -> None:
    """Do both guarantees hold while workers, broker, disk and model fail?

    A producer that never stops, the counting pipeline, and a read_committed reader that shares no code with them. Each
    fault comes by itself in full doses (50 times SIGKILL, 30 rebalances, ...), then safeguards are switched off to see
    that the checkers miss them, then faults come by chance until the time is up. What comes before chance takes about
    twenty minutes.

    \b
    once      the guarantee: at least, or exactly
    repeats   outputs that are there again; at least once may repeat what was in flight
    ended     workers that ended by themselves, with a reason, and were started again
    verdict   kept: nothing lost, nothing repeated that may not be, order per key, exact state, metrics that add up;
              seen: a control, whose missing safeguard was noticed

    --json: passed, and rows of scenario, guarantee, doses, inputs, dead_letters, repeats, ends, seed, seconds,
    violations, evidence, verdict. Exit code 1 where a guarantee was broken; the evidence stays.
    """
    if find_spec("pytest") is None:
        raise click.ClickException("the chaos suite needs pytest: run `./headrace test --version` once, it installs it")
    folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    report, evidence = folder / "report.jsonl", folder / "evidence"
    with exit_on_sigterm(), _suite(arguments(minutes, guarantee, seed, report, evidence)) as suite:
        code = suite.wait()
    rows = read(report)
    Console(stderr=as_json).print(table(rows))
    for row in rows:
        for violation in row.violations:
            click.echo(f"broken: {row.scenario}, {row.guarantee}, seed {row.seed}: {violation}", err=True)
    if as_json:
        click.echo(json.dumps({"rows": [vars(row) | {"verdict": row.verdict} for row in rows], "passed": code == 0}))
    if code != 0:
        click.echo(f"failed: the suite ended with {code}; evidence in {evidence}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)
