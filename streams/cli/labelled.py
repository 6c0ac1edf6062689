"""Labelled transactions for commands that learn from them: recorded ones, or simulated ones where no file is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from streams.cli.console import file_name, recorded_option

if TYPE_CHECKING:
    from models.fraud.transactions import Transactions

DAYS, CUSTOMERS = 120, 5000


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled transactions, the options that give them again, what they are, and kinds of fraud where known."""

    transactions: Transactions
    options: list[str]
    what: str
    scenario: NDArray[np.int8]


@dataclass(frozen=True)
class Asked:
    """What the options of a source say: files, or the simulator's; `until` and `seed` go for both."""

    files: Sequence[Path]
    until: date | None
    days: int | None
    customers: int | None
    seed: int

    def read(self, progress: Progress) -> Source:
        """Read the files, or simulate.

        Raises:
            TrainingFailed: A file is not one of transactions.
        """
        if self.files:
            return _recorded(self.files, progress)
        return _simulated(self.days or DAYS, self.customers or CUSTOMERS, self.seed, progress)


def source_options(seed_of: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--transactions`, `--until`, `--days`, `--customers` and `--seed`, which a command gets as its first argument.

    A command line with both files and options of the simulator is a click.UsageError.

    Args:
        seed_of: what the seed is of.
    """

    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def asking(
            files: tuple[Path, ...],
            until: datetime | None,
            days: int | None,
            customers: int | None,
            seed: int,
            **others: Any,
        ) -> Any:
            if files and (days or customers):
                raise click.UsageError(
                    "--days and --customers belong to simulated transactions, not to --transactions."
                )
            return command(Asked(files, until and until.date(), days, customers, seed), **others)

        decorated: Callable[..., Any] = asking
        for option in _options(seed_of):
            decorated = option(decorated)
        return decorated

    return options


def _options(seed_of: str) -> tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]:
    """In the order that click wants: what is to be shown first stands last."""
    return (
        click.option(
            "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True, help=f"Of {seed_of}."
        ),
        click.option("--customers", type=click.IntRange(min=10), help=f"Cards to simulate.  [default: {CUSTOMERS}]"),
        click.option("--days", type=click.IntRange(min=1), help=f"Days to simulate.  [default: {DAYS}]"),
        click.option(
            "--until",
            type=click.DateTime(["%Y-%m-%d"]),
            help="Use what is known at the beginning of this day, UTC.  [default: the day after the last transaction]",
        ),
        recorded_option(required=False),
    )


def _recorded(files: Sequence[Path], progress: Progress) -> Source:
    from models.fraud.transactions import read_transactions

    reading = progress.add_task("reading files", total=len(files), note="")
    transactions = read_transactions(files)
    progress.update(reading, completed=len(files))
    names = [file_name(file) for file in files]
    return Source(transactions, [f"--transactions {name}" for name in names], ", ".join(names), np.empty(0, np.int8))


def _simulated(days: int, customers: int, seed: int, progress: Progress) -> Source:
    from streams.cli.simulated import simulate

    simulating = progress.add_task("simulating days", total=days, note="")
    simulated = simulate(days, customers, seed, lambda day: progress.update(simulating, completed=day))
    what = f"the transaction simulator's default world with {customers} cards"
    return Source(simulated.transactions, [f"--days {days}", f"--customers {customers}"], what, simulated.scenario)
