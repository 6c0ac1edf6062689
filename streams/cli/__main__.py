"""The program: what the launcher runs, and the script `headrace`."""

from __future__ import annotations

import os
import sys

from streams.cli import interrupts


def main() -> None:
    """Run the command that the arguments name; an interrupt before it has begun ends the program without a word."""
    interrupts.end_at_once()
    _fill_standard_streams()
    from streams.cli.main import main as run  # most of a start

    interrupts.raise_outside_imports()
    try:
        run()
    finally:
        interrupts.end_at_once()


def _fill_standard_streams() -> None:
    """What whoever started us has closed goes nowhere: a socket in such a place makes the event loop abort."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, so it is this one
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r"))


if __name__ == "__main__":
    main()
