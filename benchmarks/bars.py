"""What a measurement is held against: printed as met or missed, never enforced."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """One bar: at most `limit`, or at least.

    Attributes:
        what: what was measured.
        found: NaN where it could not be.
        digits: how many decimals are shown.
        spoiled: the machine was too busy for a verdict.
    """

    what: str
    found: float
    limit: float
    unit: str = ""
    at_least: bool = False
    digits: int = 1
    spoiled: bool = False

    @property
    def met(self) -> bool | None:
        """None: there is no verdict."""
        if math.isnan(self.found) or self.spoiled:
            return None
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    @property
    def verdict(self) -> str:
        """One or two words for a table."""
        if self.met is None:
            return "no verdict" if self.spoiled else "not measured"
        return "met" if self.met else "missed"


def table(bars: Iterable[Bar]) -> Table:
    """Draw the bars for a terminal."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    drawn.add_column("bar")
    for heading in ("found", "expected", "verdict"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for bar in bars:
        found = "" if math.isnan(bar.found) else f"{bar.found:,.{bar.digits}f}{bar.unit}"
        limit = f"{'>=' if bar.at_least else '<='} {bar.limit:,.{bar.digits}f}{bar.unit}"
        drawn.add_row(bar.what, found, limit, bar.verdict)
    return drawn
