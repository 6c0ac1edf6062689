"""What the commands of `headrace predict` have in common: where predictions go, and how dead letters are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from streams.cli.console import existing_file
from streams.errors import HeadraceError

if TYPE_CHECKING:
    from streams.replay import DeadLetter


class DeadLetters:
    """Dead letters as JSON lines on standard error, counted by stage."""

    def __init__(self) -> None:
        self.stages: Counter[str] = Counter()

    def tell(self, letter: DeadLetter, place: dict[str, object], more: dict[str, object] | None = None) -> None:
        """One more: where it was, why it failed, and what else there is to say of it."""
        import msgspec

        from streams.cli.records import shown_headers

        reasons = shown_headers(letter.headers, everything=False)
        self.stages[str(reasons["error.stage"])] += 1
        why = {name: reasons[f"error.{name}"] for name in ("stage", "type", "message")}
        click.echo(msgspec.json.encode(place | why | (more or {})), err=True)

    def summary(self) -> str:
        """What is appended to a summary; nothing where there were none."""
        if not self.stages:
            return ""
        return "; dead letters: " + ", ".join(f"{count:,} at {stage}" for stage, count in self.stages.items())


def check_apart(inputs: Mapping[str, str | None], outputs: Mapping[str, str | None]) -> None:
    """Options and the files that they name.

    Raises:
        UsageError: an output would overwrite an input or another output.
    """
    named = [
        (option, existing_file(text), option in inputs) for option, text in (*inputs.items(), *outputs.items()) if text
    ]
    for (option, path, is_input), (other, other_path, other_is_input) in combinations(named, 2):
        if not (is_input and other_is_input) and _same(path, other_path):
            raise click.UsageError(f"{option} and {other} are the same file, {path}, which would be overwritten")


def _same(one: Path, other: Path) -> bool:
    try:
        # A terminal or /dev/null may take several.
        return one.samefile(other) and one.is_file()
    except OSError:  # one of them is not there yet
        return one.resolve() == other.resolve()


def predictions_file(output: str) -> BinaryIO:
    """A file for what comes out. Raises: HeadraceError."""
    path = existing_file(output)
    try:
        return path.open("wb")
    except OSError as error:
        raise HeadraceError(f"writing predictions to {path}: {error.strerror or error}") from None
