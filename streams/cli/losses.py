"""What the commands say of that part of a film or a folder which they could not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.video import Counters


def incomplete(counters: Counters) -> bool:
    """Whether a source should have had more frames."""
    return counters.damaged > 0 or counters.cut_off is not None


def losses(counters: Counters) -> str:
    """What is appended to a summary; nothing where everything was read."""
    text = ""
    if counters.damaged:
        text += f"; at least {counters.damaged:,} could not be decoded"
    if counters.cut_off is not None:
        ends_s, should_s = counters.cut_off
        text += f"; the film ends after {ends_s:,.1f} s of the {should_s:,.1f} s that it should have"
    if counters.foreign:
        text += f"; files left out, whose names are not those of pictures: {counters.foreign:,}"
    return text
