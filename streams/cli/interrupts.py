"""What Ctrl-C does, from the first line of the program on."""

from __future__ import annotations

import os
import signal
from types import FrameType

IMPORTING = "<frozen importlib._bootstrap>"  # the file of the frames that load a module


def end_at_once() -> None:
    """Ctrl-C ends the process, as long as it has nothing to put in order; where it was ignored, it stays so."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_outside_imports() -> None:
    """Ctrl-C becomes a KeyboardInterrupt, so that a command can put in order what it has begun; while a module loads,
    it ends the process: compiled modules (those of numpy.random) swallow what is raised in them."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def leave_to_asyncio() -> None:
    """Ctrl-C cancels the task that the next event loop runs: asyncio sees to that in place of Python's own handler."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        frame = frame.f_back
    raise KeyboardInterrupt
