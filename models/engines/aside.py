"""Long work in a process of its own, while this one goes on serving: progress, result, cancellation."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from models import engine as errors
from models.engine import EngineUnavailable, ModelError

NICENESS = 10  # serving comes first
GRACE_S = 5.0  # between asking a process to end and ending it


class Progress(msgspec.Struct, frozen=True):
    """How far the work is: `share` of it between 0 and 1, and what is being done."""

    share: float
    doing: str


Report = Callable[[Progress], None]


class Aside:
    """Runs `work(report, *arguments)` in a new process, which starts at once.

    A crash there, of a compiler say, ends that process alone. Not safe for threads: one thread polls.

    Args:
        work: a function of a module; it and its arguments travel by pickle between the two processes.
        doing: what the work is, for errors, e.g. `building fraud/2 for tensorrt`.
    """

    def __init__(self, doing: str, work: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use a CUDA that its parent has begun
        self._doing = doing
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(sender, work, arguments), daemon=True)
        self._process.start()
        sender.close()
        self._error: ModelError | None = None
        self._done = self._ended = False
        self.progress = Progress(0.0, "starting")

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Whether the work is over, however it ended; waits up to `timeout_s` for news and updates `progress`."""
        with contextlib.suppress(EOFError, OSError):
            while not self._ended and self._receiver.poll(timeout_s):
                self._take(self._receiver.recv())
                timeout_s = 0.0
            return self._ended
        self._end()
        return True

    def wait(self) -> None:
        """Return when the work is done.

        Raises: the ModelError that the work raised; EngineUnavailable where its process ended or was cancelled.
        """
        while not self.poll(1.0):
            pass
        if self._error is not None:
            raise self._error
        if not self._done:
            raise EngineUnavailable(
                f"{self._doing}: its process ended with code {self._process.exitcode} before it was done; "
                "nothing was built"
            )

    def cancel(self) -> None:
        """End the process, whatever it is doing; may be called more than once."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(GRACE_S)
            if self._process.is_alive():
                self._process.kill()
        self._end()

    def _take(self, message: tuple[str, Any]) -> None:
        kind, content = message
        if kind == "progress":
            self.progress = Progress(*content)
            return
        if kind == "done":
            self._done, self.progress = True, Progress(1.0, "done")
        else:
            self._error = getattr(errors, kind, ModelError)(content)
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._process.join()
        self._receiver.close()


def _run(sender: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.nice(NICENESS)

    def report(progress: Progress) -> None:
        sender.send(("progress", (progress.share, progress.doing)))

    try:
        work(report, *arguments)
    except ModelError as error:
        sender.send((type(error).__name__, str(error)))
    except Exception as error:  # whatever a compiler raises is an answer to who waits
        sender.send(("EngineUnavailable", f"{type(error).__name__}: {error}; nothing was built"))
    else:
        sender.send(("done", None))
