"""What the commands of `headrace predict` have in common: where predictions go, and how dead letters are told."""

from __future__ import annotations

from collections import Counter
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

    def tell(self, letter: DeadLetter, place: dict[str, int], more: dict[str, object] | None = None) -> None:
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


def predictions_file(output: str) -> BinaryIO:
    """A file for what comes out. Raises: HeadraceError."""
    path = existing_file(output)
    try:
        return path.open("wb")
    except OSError as error:
        raise HeadraceError(f"writing predictions to {path}: {error.strerror or error}") from None
