"""A command of `headrace models`, or of another group, on a terminal of its own, for what it asks only there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence

TIMEOUT_S = 60


def on_terminal(*arguments: str, answers: Sequence[str], code: int | None = None, group: str = "models") -> str:
    """What the command says on the terminal, given these lines."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        command = [sys.executable, "-m", "streams.cli", group, *arguments]
        done = subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            env=os.environ | {"COLUMNS": "200"},
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert code is None or done.returncode == code, done.stderr
    return done.stdout + done.stderr
