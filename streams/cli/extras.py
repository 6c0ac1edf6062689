"""How to install what is missing: into this interpreter, and from this checkout where there is one."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2]  # a checkout, or site-packages
_COMMAND = re.compile(r"\bpip install (?:'headrace\[(\w+)\]')?")


def for_this_interpreter(message: str) -> str:
    """An error's message in which `pip install …` is a command that works here.

    The packages below know an extra's name, not where Headrace came from: the launcher has an environment of its own,
    which a bare `pip` does not mean, and a checkout is on no registry.
    """
    pip = f"{shlex.quote(sys.executable)} -m pip install "

    def command(found: re.Match[str]) -> str:
        extra = found[1]
        if extra and (FOLDER / "pyproject.toml").is_file():
            return f"{pip}-e {shlex.quote(f'{FOLDER}[{extra}]')}"
        return pip + (f"'headrace[{extra}]'" if extra else "")

    return _COMMAND.sub(command, message)
