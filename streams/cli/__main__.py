"""The program: what the launcher runs, and the script `headrace`."""

from __future__ import annotations

from streams.cli import interrupts


def main() -> None:
    """Run the command that the arguments name; an interrupt before it has begun ends the program without a word."""
    interrupts.end_at_once()
    from streams.cli.main import main as run  # most of a start

    interrupts.raise_outside_imports()
    try:
        run()
    finally:
        interrupts.end_at_once()


if __name__ == "__main__":
    main()
